#ifndef ATTENDANT_SERVER_RPC_MESSAGE_PARSING_H_
#define ATTENDANT_SERVER_RPC_MESSAGE_PARSING_H_

// Bytes to messages and back. The server takes requests as bytes, because gRPC would answer one
// that does not parse with UNIMPLEMENTED and no reason, and end a stream for it without a word.

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"

namespace attendant::server {

// INVALID_ARGUMENT for bytes that are not such a message: one that has a string that is not UTF-8
// names the field
// ("inputs[3].text") and where in it. What could be read before the error is left in `message`.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);

// `message` is less than 2 GiB.
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_MESSAGE_PARSING_H_
