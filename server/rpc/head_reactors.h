#ifndef ATTENDANT_SERVER_RPC_HEAD_REACTORS_H_
#define ATTENDANT_SERVER_RPC_HEAD_REACTORS_H_

// FillMask, Classify, Rank and Answer: RPCs that read a head of an encoder.

#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "server/rpc/call.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/head_conversion.h"
#include "server/rpc/unary_reactor.h"
#include "server/status/status_details.h"

namespace attendant::server {

// What one of these RPCs differs in: its messages, the method of the engine, what a model must have
// for it, and the field that holds its inputs.
struct FillMaskRpc {
  using Request = v1::FillMaskRequest;
  using Response = v1::FillMaskResponse;
  static constexpr char kName[] = "FillMask";
  static constexpr char kInputs[] = "inputs";
  static constexpr Capability kCapability = Capability::kFillMask;
  static constexpr auto kRun = &engine::Engine::FillMask;
};
struct ClassifyRpc {
  using Request = v1::ClassifyRequest;
  using Response = v1::ClassifyResponse;
  static constexpr char kName[] = "Classify";
  static constexpr char kInputs[] = "inputs";
  static constexpr Capability kCapability = Capability::kClassify;
  static constexpr auto kRun = &engine::Engine::Classify;
};
struct RankRpc {
  using Request = v1::RankRequest;
  using Response = v1::RankResponse;
  static constexpr char kName[] = "Rank";
  static constexpr char kInputs[] = "documents";
  static constexpr Capability kCapability = Capability::kRank;
  static constexpr auto kRun = &engine::Engine::Rank;
};
struct AnswerRpc {
  using Request = v1::AnswerRequest;
  using Response = v1::AnswerResponse;
  static constexpr char kName[] = "Answer";
  static constexpr char kInputs[] = "inputs";
  static constexpr Capability kCapability = Capability::kAnswer;
  static constexpr auto kRun = &engine::Engine::Answer;
};

template <typename Rpc>
class HeadReactor : public UnaryReactor<typename Rpc::Request, typename Rpc::Response> {
 public:
  HeadReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
              grpc::ByteBuffer* response)
      : UnaryReactor<typename Rpc::Request, typename Rpc::Response>(environment, Rpc::kName,
                                                                    context, response) {}

 private:
  absl::Status Start(typename Rpc::Request message, int64_t num_bytes) override {
    Call& call = this->call();
    const RpcEnvironment& environment = call.environment();
    ASSIGN_OR_RETURN(const engine::ModelDescription model,
                     ResolveModel(environment, message.model(), Rpc::kCapability));
    call.record().model = model.name;
    ASSIGN_OR_RETURN(auto conversion, FromMessage(message, model, environment.limits));
    RETURN_IF_ERROR(call.Admit(conversion.num_tokens, num_bytes));
    conversion.request.model = model.name;
    conversion.request.control = call.control();
    (environment.engine.*Rpc::kRun)(
        std::move(conversion.request),
        [self = this->shared_from_this(), this,
         input_status = std::move(conversion.input_status)](auto result) mutable {
          this->RunReply([self = std::move(self), this, input_status = std::move(input_status),
                          result = std::move(result)]() mutable {
            if (!result.ok()) {
              this->Reply(WithField(FailureOf(result.status(), input_status), Rpc::kInputs));
              return;
            }
            Call& call = this->call();
            call.record().usage = result->usage;
            call.record().timings = result->timings;
            this->Reply(
                ToMessage(*std::move(result), input_status, call.record().model, call.elapsed()));
          });
        });
    return absl::OkStatus();
  }
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_HEAD_REACTORS_H_
