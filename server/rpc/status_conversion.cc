#include "server/rpc/status_conversion.h"

#include "server/status/status_details.h"

namespace attendant::server {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status message = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message.message(),
                      message.details().empty() ? "" : message.SerializeAsString());
}

}  // namespace attendant::server
