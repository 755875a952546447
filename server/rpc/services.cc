#include "server/rpc/services.h"

#include <utility>

#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "server/rpc/attend_reactor.h"
#include "server/rpc/encode_reactor.h"
#include "server/rpc/encode_stream_reactor.h"
#include "server/rpc/generate_reactor.h"
#include "server/rpc/head_reactors.h"
#include "server/rpc/model_reactors.h"

namespace attendant::server {
namespace {

using Context = grpc::CallbackServerContext;
using Bytes = grpc::ByteBuffer;

// Messages come and go as bytes, see message_parsing.h.
using Inference = v1::InferenceService;
using RawInferenceService = Inference::WithRawCallbackMethod_Encode<
    Inference::WithRawCallbackMethod_EncodeStream<Inference::WithRawCallbackMethod_Generate<
        Inference::WithRawCallbackMethod_Attend<Inference::WithRawCallbackMethod_Rank<
            Inference::WithRawCallbackMethod_Classify<Inference::WithRawCallbackMethod_FillMask<
                Inference::WithRawCallbackMethod_Answer<Inference::Service>>>>>>>>;

class InferenceService final : public RawInferenceService {
 public:
  explicit InferenceService(const RpcEnvironment& environment) : environment_(environment) {}

  grpc::ServerUnaryReactor* Encode(Context* context, const Bytes* request,
                                   Bytes* response) override {
    return EncodeReactor::Serve<EncodeReactor>(environment_, *context, *request, response);
  }
  grpc::ServerBidiReactor<Bytes, Bytes>* EncodeStream(Context* context) override {
    return EncodeStreamReactor::Serve(environment_, *context);
  }
  grpc::ServerWriteReactor<Bytes>* Generate(Context* context, const Bytes* request) override {
    return GenerateReactor::Serve<GenerateReactor>(environment_, *context, *request);
  }
  grpc::ServerWriteReactor<Bytes>* Attend(Context* context, const Bytes* request) override {
    return AttendReactor::Serve<AttendReactor>(environment_, *context, *request);
  }
  grpc::ServerUnaryReactor* Rank(Context* context, const Bytes* request, Bytes* response) override {
    using Reactor = HeadReactor<RankRpc>;
    return Reactor::Serve<Reactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* Classify(Context* context, const Bytes* request,
                                     Bytes* response) override {
    using Reactor = HeadReactor<ClassifyRpc>;
    return Reactor::Serve<Reactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* FillMask(Context* context, const Bytes* request,
                                     Bytes* response) override {
    using Reactor = HeadReactor<FillMaskRpc>;
    return Reactor::Serve<Reactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* Answer(Context* context, const Bytes* request,
                                   Bytes* response) override {
    using Reactor = HeadReactor<AnswerRpc>;
    return Reactor::Serve<Reactor>(environment_, *context, *request, response);
  }

 private:
  const RpcEnvironment& environment_;
};

using Models = v1::ModelService;
using RawModelService = Models::WithRawCallbackMethod_ListModels<
    Models::WithRawCallbackMethod_GetModel<Models::WithRawCallbackMethod_Tokenize<
        Models::WithRawCallbackMethod_Detokenize<Models::Service>>>>;

class ModelService final : public RawModelService {
 public:
  explicit ModelService(const RpcEnvironment& environment) : environment_(environment) {}

  grpc::ServerUnaryReactor* ListModels(Context* context, const Bytes* request,
                                       Bytes* response) override {
    return ListModelsReactor::Serve<ListModelsReactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* GetModel(Context* context, const Bytes* request,
                                     Bytes* response) override {
    return GetModelReactor::Serve<GetModelReactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* Tokenize(Context* context, const Bytes* request,
                                     Bytes* response) override {
    return TokenizeReactor::Serve<TokenizeReactor>(environment_, *context, *request, response);
  }
  grpc::ServerUnaryReactor* Detokenize(Context* context, const Bytes* request,
                                       Bytes* response) override {
    return DetokenizeReactor::Serve<DetokenizeReactor>(environment_, *context, *request, response);
  }

 private:
  const RpcEnvironment& environment_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeServices(const RpcEnvironment& environment) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<InferenceService>(environment));
  services.push_back(std::make_unique<ModelService>(environment));
  return services;
}

std::vector<std::string> ServiceNames() {
  return {v1::InferenceService::service_full_name(), v1::ModelService::service_full_name()};
}

}  // namespace attendant::server
