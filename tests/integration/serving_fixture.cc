#include "tests/integration/serving_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::server {

ServingTest::ServingTest() {
  options_.listen = options_.metrics_listen = "127.0.0.1:0";
  options_.request_log = "off";
  options_.engine.num_threads = 1;
  options_.engine.pin_threads = false;
  options_.engine.kv_cache_bytes = 8 << 20;
  for (const std::string name : {"bert", "gpt2"}) {
    options_.models.push_back(
        {.name = name,
         .path = attendant::testing::TestDataPath(absl::StrCat("goldens/", name, "/plain")),
         .dtype = engine::DataType::kFloat32});
  }
}

void ServingTest::Start() {
  ASSERT_OK_AND_ASSIGN(server_, InferenceServer::Start(options_));
  ASSERT_OK(server_->LoadModels());
  channel_ = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  inference_ = v1::InferenceService::NewStub(channel_);
  models_ = v1::ModelService::NewStub(channel_);
  health_ = grpc::health::v1::Health::NewStub(channel_);
}

std::string ServingTest::address() const {
  return absl::StrCat("127.0.0.1:", server_->grpc_port());
}

grpc::health::v1::HealthCheckResponse::ServingStatus ServingTest::Health(
    const std::string& service) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  if (!health_->Check(&context, request, &response).ok())
    return grpc::health::v1::HealthCheckResponse::UNKNOWN;
  return response.status();
}

grpc::Status ServingTest::Encode(const v1::EncodeRequest& request, v1::EncodeResponse* response) {
  grpc::ClientContext context;
  v1::EncodeResponse unused;
  return inference_->Encode(&context, request, response != nullptr ? response : &unused);
}

std::vector<float> ServingTest::Vector(const std::string& text) {
  v1::EncodeResponse response;
  const grpc::Status status = Encode(Texts({text}), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::vector<float> vector(response.embeddings().data().size() / sizeof(float));
  std::memcpy(vector.data(), response.embeddings().data().data(), vector.size() * sizeof(float));
  return vector;
}

grpc::Status ServingTest::Generate(const v1::GenerateRequest& request, std::string* text,
                                   v1::GenerateFinished* finished) {
  grpc::ClientContext context;
  auto stream = inference_->Generate(&context, request);
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
    if (text != nullptr) text->append(response.chunk().text());
    if (finished != nullptr && response.has_finished()) *finished = response.finished();
  }
  return stream->Finish();
}

grpc::Status ServingTest::Attend(const v1::AttendRequest& request,
                                 std::vector<v1::AttendResponse>* responses) {
  grpc::ClientContext context;
  auto stream = inference_->Attend(&context, request);
  v1::AttendResponse response;
  while (stream->Read(&response)) {
    if (responses != nullptr) responses->push_back(response);
  }
  return stream->Finish();
}

grpc::Status ServingTest::CallRaw(const std::string& method, const std::string& bytes,
                                  std::string* last_answer) {
  return ::attendant::server::CallRaw(channel_, method, bytes, last_answer);
}

grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                     const std::string& bytes, std::string* last_answer) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
  grpc::CompletionQueue queue;
  const auto wait = [&] {
    void* tag;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  auto call = stub.PrepareCall(&context, method, &queue);
  grpc::Status status;
  call->StartCall(nullptr);
  if (wait()) {
    const grpc::Slice slice(bytes);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    wait();
    grpc::ByteBuffer answer;
    while (true) {
      call->Read(&answer, nullptr);
      if (!wait()) break;
      std::vector<grpc::Slice> slices;
      if (last_answer == nullptr || !answer.Dump(&slices).ok()) continue;
      last_answer->clear();
      for (const grpc::Slice& part : slices) {
        last_answer->append(reinterpret_cast<const char*>(part.begin()), part.size());
      }
    }
  }
  call->Finish(&status, nullptr);
  wait();
  queue.Shutdown();
  while (wait()) {
  }
  return status;
}

double ServingTest::Metric(const std::string& name_and_labels) {
  const std::string page = HttpGet("/metrics");
  for (absl::string_view line : absl::StrSplit(page, '\n')) {
    double value;
    if (absl::ConsumePrefix(&line, name_and_labels) && absl::SimpleAtod(line, &value)) return value;
  }
  return -1;
}

std::string ServingTest::HttpGet(const std::string& path) {
  return server::HttpGet(server_->metrics_port(), path);
}

std::string HttpGet(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    ssize_t length;
    while ((length = read(fd, buffer, sizeof(buffer))) > 0) answer.append(buffer, length);
  }
  close(fd);
  return answer;
}

std::string FieldOf(const grpc::Status& status) {
  google::rpc::Status message;
  message.ParseFromString(status.error_details());
  for (const auto& any : message.details()) {
    google::rpc::BadRequest bad_request;
    if (any.UnpackTo(&bad_request)) return bad_request.field_violations(0).field();
  }
  return "";
}

v1::EncodeRequest Texts(const std::vector<std::string>& texts) {
  v1::EncodeRequest request;
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
  return request;
}

v1::GenerateRequest Prompt(const std::string& text, int max_new_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_new_tokens(max_new_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

v1::AttendRequest Ones(int64_t heads, int64_t length, int64_t dim) {
  v1::AttendRequest request;
  v1::TensorAttention& tensors = *request.mutable_tensors();
  const float one = 1.0f;
  for (v1::Tensor* tensor :
       {tensors.mutable_query(), tensors.mutable_key(), tensors.mutable_value()}) {
    tensor->set_dtype(v1::DATA_TYPE_FLOAT32);
    for (const int64_t axis : {heads, length, dim}) tensor->add_shape(axis);
    for (int64_t i = 0; i < heads * length * dim; ++i) {
      tensor->mutable_data()->append(reinterpret_cast<const char*>(&one), sizeof(one));
    }
  }
  return request;
}

}  // namespace attendant::server
