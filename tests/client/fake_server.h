#ifndef ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_
#define ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_

#include <atomic>
#include <memory>
#include <string>

#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace attendant::client {

// A server without an engine, on a free port of loopback, whose answers are fixed by these rules:
//
//   Encode      a text's vector is [number of its bytes, number of its vowels, 1]; the text "bad"
//   fails alone; the
//               model "none" is NOT_FOUND; no inputs at all are INVALID_ARGUMENT; all with
//               google.rpc details
//   Generate    the words of the prompt, one chunk each. The prompt "overloaded" is
//   RESOURCE_EXHAUSTED, "break" fails
//               with INTERNAL after its first chunk, "hang" sends one chunk and then waits until it
//               is cancelled
//   Attend      `tensors`: the query as output, in blocks of one head and one row, the last row
//   first;
//               `layer`: twice the query
//   Tokenize    one token for each byte
//   models      "letters" and "words"
//   health      SERVING; NOT_SERVING for the service "draining"; else NOT_FOUND
class FakeServer {
 public:
  FakeServer();
  ~FakeServer();

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

  // Whether the last call that was cancelled, or ran past its deadline, was seen to be.
  bool saw_cancellation() const { return saw_cancellation_; }

  // What the last Generate or Encode asked for.
  const v1::GenerateRequest& last_generate() const { return last_generate_; }
  const v1::EncodeRequest& last_encode() const { return last_encode_; }

 private:
  class Inference;
  class Models;
  class Health;

  std::atomic<bool> saw_cancellation_ = false;
  v1::GenerateRequest last_generate_;
  v1::EncodeRequest last_encode_;
  std::unique_ptr<Inference> inference_;
  std::unique_ptr<Models> models_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace attendant::client

#endif  // ATTENDANT_TESTS_CLIENT_FAKE_SERVER_H_
