#include "server/rpc/encode_reactor.h"

#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/request_conversion.h"
#include "server/status/status_details.h"

namespace attendant::server {
absl::Status StartEncode(Call& call, v1::EncodeRequest message, int64_t num_bytes,
                         absl::AnyInvocable<void(absl::StatusOr<v1::EncodeResponse>) &&> done) {
  const RpcEnvironment& environment = call.environment();
  ASSIGN_OR_RETURN(const engine::ModelDescription model,
                   ResolveModel(environment, message.model(), Capability::kEncode));
  call.record().model = model.name;
  ASSIGN_OR_RETURN(EncodeConversion conversion,
                   EncodeFromMessage(message, model, environment.limits));
  RETURN_IF_ERROR(call.Admit(conversion.num_tokens, num_bytes));
  conversion.request.model = model.name;
  conversion.request.control = call.control();
  environment.engine.Encode(
      std::move(conversion.request),
      [&call, input_status = std::move(conversion.input_status),
       done = std::move(done)](absl::StatusOr<engine::EncodeResult> result) mutable {
        call.environment().replies.Run([&call, input_status = std::move(input_status),
                                        done = std::move(done),
                                        result = std::move(result)]() mutable {
          if (!result.ok()) {
            std::move(done)(WithField(FailureOf(result.status(), input_status), "inputs"));
            return;
          }
          call.record().usage = result->usage;
          call.record().timings = result->timings;
          std::move(done)(EncodeToMessage(*std::move(result), input_status, call.record().model,
                                          call.elapsed()));
        });
      });
  return absl::OkStatus();
}

absl::Status EncodeReactor::Start(v1::EncodeRequest request, int64_t num_bytes) {
  return StartEncode(call(), std::move(request), num_bytes,
                     [self = shared_from_this(),
                      this](absl::StatusOr<v1::EncodeResponse> response) { Reply(response); });
}

}  // namespace attendant::server
