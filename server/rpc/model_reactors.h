#ifndef ATTENDANT_SERVER_RPC_MODEL_REACTORS_H_
#define ATTENDANT_SERVER_RPC_MODEL_REACTORS_H_

// The RPCs of ModelService.

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "attendant/v1/model.pb.h"
#include "server/rpc/unary_reactor.h"

namespace attendant::server {

class ListModelsReactor : public UnaryReactor<v1::ListModelsRequest, v1::ListModelsResponse> {
 public:
  ListModelsReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
                    grpc::ByteBuffer* response)
      : UnaryReactor(environment, "ListModels", context, response) {}

 private:
  absl::Status Start(v1::ListModelsRequest request, int64_t num_bytes) override;
};

class GetModelReactor : public UnaryReactor<v1::GetModelRequest, v1::GetModelResponse> {
 public:
  GetModelReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
                  grpc::ByteBuffer* response)
      : UnaryReactor(environment, "GetModel", context, response) {}

 private:
  absl::Status Start(v1::GetModelRequest request, int64_t num_bytes) override;
};

class TokenizeReactor : public UnaryReactor<v1::TokenizeRequest, v1::TokenizeResponse> {
 public:
  TokenizeReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
                  grpc::ByteBuffer* response)
      : UnaryReactor(environment, "Tokenize", context, response) {}

 private:
  absl::Status Start(v1::TokenizeRequest request, int64_t num_bytes) override;
  void OnInput(int index, absl::StatusOr<engine::TokenizedText> text);

  absl::Mutex mutex_;
  v1::TokenizeResponse answer_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> input_status_ ABSL_GUARDED_BY(mutex_);
  int num_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

class DetokenizeReactor : public UnaryReactor<v1::DetokenizeRequest, v1::DetokenizeResponse> {
 public:
  DetokenizeReactor(const RpcEnvironment& environment, grpc::CallbackServerContext& context,
                    grpc::ByteBuffer* response)
      : UnaryReactor(environment, "Detokenize", context, response) {}

 private:
  absl::Status Start(v1::DetokenizeRequest request, int64_t num_bytes) override;
  void OnInput(int index, absl::StatusOr<std::string> text);

  absl::Mutex mutex_;
  v1::DetokenizeResponse answer_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int num_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_MODEL_REACTORS_H_
