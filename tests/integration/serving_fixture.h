#ifndef ATTENDANT_TESTS_INTEGRATION_SERVING_FIXTURE_H_
#define ATTENDANT_TESTS_INTEGRATION_SERVING_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "attendant/v1/inference.grpc.pb.h"
#include "attendant/v1/model.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/inference_server.h"

namespace attendant::server {

// A server on free ports with tiny models of random weights: "bert" (70 positions, 97 tokens),
// "gpt2" (130, 97).
class ServingTest : public ::testing::Test {
 protected:
  ServingTest();

  // With `options_`, which a test may change before.
  void Start();

  std::string address() const;
  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& service = "");

  grpc::Status Encode(const v1::EncodeRequest& request, v1::EncodeResponse* response = nullptr);
  // The first vector of `text`, which the server must give.
  std::vector<float> Vector(const std::string& text);

  // Reads a whole generation; its text in `text`.
  grpc::Status Generate(const v1::GenerateRequest& request, std::string* text = nullptr,
                        v1::GenerateFinished* finished = nullptr);
  grpc::Status Attend(const v1::AttendRequest& request,
                      std::vector<v1::AttendResponse>* responses = nullptr);

  // Sends `bytes` as the only message of "/SERVICE/METHOD", and reads until the end.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes,
                       std::string* last_answer = nullptr);

  // The value of the sample that starts with `name_and_labels`; -1 if there is none.
  double Metric(const std::string& name_and_labels);
  // The body of GET `path` on the metrics port.
  std::string HttpGet(const std::string& path);

  ServerOptions options_;
  std::unique_ptr<InferenceServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// GET `path` from 127.0.0.1:`port`: the whole answer, empty if there is none.
std::string HttpGet(int port, const std::string& path);

// The path of the BadRequest among the details, else empty.
std::string FieldOf(const grpc::Status& status);

v1::EncodeRequest Texts(const std::vector<std::string>& texts);
v1::GenerateRequest Prompt(const std::string& text, int max_new_tokens);
// Attention over [heads, length, dim] of ones.
v1::AttendRequest Ones(int64_t heads, int64_t length, int64_t dim);

// Sends `bytes` as the only message of "/SERVICE/METHOD", and reads until the end.
grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                     const std::string& bytes, std::string* last_answer);

}  // namespace attendant::server

#endif  // ATTENDANT_TESTS_INTEGRATION_SERVING_FIXTURE_H_
