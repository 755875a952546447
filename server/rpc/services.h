#ifndef ATTENDANT_SERVER_RPC_SERVICES_H_
#define ATTENDANT_SERVER_RPC_SERVICES_H_

#include <memory>
#include <vector>

#include "grpcpp/impl/service_type.h"
#include "server/rpc/call.h"

namespace attendant::server {

// The services of the contract, to be registered with a grpc::ServerBuilder. `environment` outlives
// them.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(const RpcEnvironment& environment);

// Full names of the services above, which are also their names for health checks.
std::vector<std::string> ServiceNames();

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_SERVICES_H_
