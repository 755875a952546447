#ifndef ATTENDANT_SERVER_RPC_STATUS_CONVERSION_H_
#define ATTENDANT_SERVER_RPC_STATUS_CONVERSION_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace attendant::server {

// The codes agree; the details travel in grpc-status-details-bin. Called once, where a reactor
// finishes.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_STATUS_CONVERSION_H_
