#include "tests/client/fake_server.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/tensor.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace attendant::client {
namespace {

// A status with rich details, as a real server sends it.
template <typename... Details>
grpc::Status Fail(grpc::StatusCode code, const std::string& message, const Details&... details) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  (status.add_details()->PackFrom(details), ...);
  return grpc::Status(code, message, status.SerializeAsString());
}

google::rpc::BadRequest BadField(const std::string& field, const std::string& description) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field(field);
  violation->set_description(description);
  return bad;
}

v1::Model MakeModel(const std::string& name) {
  v1::Model model;
  model.set_name(name);
  model.set_architecture(name == "letters" ? "bert" : "llama");
  model.set_stack(name == "letters" ? v1::MODEL_STACK_ENCODER : v1::MODEL_STACK_DECODER);
  model.set_num_parameters(name == "letters" ? 22'713'216 : 134'515'008);
  model.set_dtype(v1::DATA_TYPE_BFLOAT16);
  model.set_weights_bytes(2 * model.num_parameters());
  model.set_max_tokens(512);
  model.set_hidden_size(384);
  model.set_num_layers(6);
  model.set_num_attention_heads(12);
  model.set_num_key_value_heads(4);
  model.add_rpcs(name == "letters" ? "Encode" : "Generate");
  model.add_rpcs("Tokenize");
  return model;
}

}  // namespace

class FakeServer::Inference final : public v1::InferenceService::Service {
 public:
  explicit Inference(FakeServer& server) : server_(server) {}

  grpc::Status Encode(grpc::ServerContext*, const v1::EncodeRequest* request,
                      v1::EncodeResponse* response) override {
    server_.last_encode_ = *request;
    if (request->model() == "none") {
      google::rpc::ResourceInfo resource;
      resource.set_resource_type("model");
      resource.set_resource_name("none");
      resource.set_description("loaded: letters, words");
      return Fail(grpc::StatusCode::NOT_FOUND, "no such model", resource);
    }
    if (request->inputs().empty()) {
      return Fail(grpc::StatusCode::INVALID_ARGUMENT, "nothing to encode",
                  BadField("inputs", "has 0 of 1 to 4096"));
    }
    FloatTensor embeddings{{0, 3}, {}};
    for (const v1::EncodeInput& input : request->inputs()) {
      v1::EncodedInput& encoded = *response->add_inputs();
      const std::string& text = input.text();
      if (text == "bad") {
        encoded.mutable_status()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        encoded.mutable_status()->set_message("is a bad word");
        continue;
      }
      encoded.set_row(embeddings.shape[0]++);
      encoded.set_num_rows(1);
      encoded.set_num_tokens(text.size());
      encoded.set_original_tokens(text.size());
      const auto is_vowel = [](char c) {
        return absl::string_view("aeiou").find(c) != absl::string_view::npos;
      };
      embeddings.values.push_back(text.size());
      embeddings.values.push_back(std::count_if(text.begin(), text.end(), is_vowel));
      embeddings.values.push_back(1);
      response->mutable_usage()->set_input_tokens(response->usage().input_tokens() + text.size());
    }
    response->set_model("letters");
    *response->mutable_embeddings() = ToMessage(embeddings);
    return grpc::Status::OK;
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    server_.last_generate_ = *request;
    if (request->text() == "overloaded") {
      google::rpc::RetryInfo retry;
      retry.mutable_retry_delay()->set_seconds(1);
      retry.mutable_retry_delay()->set_nanos(500'000'000);
      return Fail(grpc::StatusCode::RESOURCE_EXHAUSTED, "64 requests wait already", retry);
    }
    v1::GenerateResponse response;
    response.mutable_started()->set_request_id("fake-1");
    writer->Write(response);
    const std::vector<std::string> words = absl::StrSplit(request->text(), ' ');
    for (const std::string& word : words) {
      response.mutable_chunk()->set_text(absl::StrCat(word, " "));
      writer->Write(response);
      if (word == "break") return Fail(grpc::StatusCode::INTERNAL, "lost the thread");
      if (word != "hang") continue;
      while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
      server_.saw_cancellation_ = true;
      return grpc::Status::CANCELLED;
    }
    v1::GenerateFinished& finished = *response.mutable_finished();
    finished.set_finish_reason(v1::FINISH_REASON_EOS);
    finished.mutable_usage()->set_output_tokens(words.size());
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Attend(grpc::ServerContext*, const v1::AttendRequest* request,
                      grpc::ServerWriter<v1::AttendResponse>* writer) override {
    const bool is_layer = request->has_layer();
    FloatTensor query =
        *FromMessage(is_layer ? request->layer().query() : request->tensors().query());
    if (is_layer) {
      for (float& value : query.values) value *= 2;
    }
    v1::AttendResponse response;
    response.mutable_started()->mutable_output_shape()->Add(query.shape.begin(), query.shape.end());
    writer->Write(response);

    const int64_t columns = query.shape.back();
    const int64_t num_queries = query.shape[query.shape.size() - 2];
    for (int64_t row = query.values.size() / columns - 1; row >= 0; --row) {
      v1::AttendBlock& block = *response.mutable_block();
      const auto first = query.values.begin() + row * columns;
      FloatTensor tensor{{1, columns}, {first, first + columns}};
      block.mutable_queries()->set_begin(row % num_queries);
      block.mutable_queries()->set_end(row % num_queries + 1);
      if (!is_layer) {
        tensor.shape = {1, 1, columns};
        const int64_t num_heads = query.shape[query.shape.size() - 3];
        block.mutable_heads()->set_begin(row / num_queries % num_heads);
        block.mutable_heads()->set_end(row / num_queries % num_heads + 1);
        block.set_batch(row / num_queries / num_heads);
      }
      *block.mutable_output() = ToMessage(tensor);
      writer->Write(response);
    }
    response.mutable_finished();
    writer->Write(response);
    return grpc::Status::OK;
  }

 private:
  FakeServer& server_;
};

class FakeServer::Models final : public v1::ModelService::Service {
 public:
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    *response->add_models() = MakeModel("letters");
    *response->add_models() = MakeModel("words");
    response->set_default_model("letters");
    return grpc::Status::OK;
  }

  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override {
    if (request->model() != "letters" && request->model() != "words") {
      return Fail(grpc::StatusCode::NOT_FOUND, "no such model");
    }
    *response->mutable_model() = MakeModel(request->model());
    return grpc::Status::OK;
  }

  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    response->set_model("letters");
    for (const v1::TokenizeInput& input : request->inputs()) {
      v1::TokenizedInput& tokenized = *response->add_inputs();
      const std::string& text = input.text();
      for (size_t i = 0; i < text.size(); ++i) {
        v1::TextToken& token = *tokenized.add_tokens();
        token.set_id(static_cast<uint8_t>(text[i]));
        token.set_token(text.substr(i, 1));
        token.mutable_span()->set_byte_start(i);
        token.mutable_span()->set_byte_end(i + 1);
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    for (const v1::TokenIds& input : request->inputs()) {
      std::string& text = *response->add_texts();
      for (const int32_t id : input.ids()) text.push_back(static_cast<char>(id));
    }
    return grpc::Status::OK;
  }
};

class FakeServer::Health final : public grpc::health::v1::Health::Service {
 public:
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override {
    using grpc::health::v1::HealthCheckResponse;
    if (!request->service().empty() && request->service() != "draining") {
      return grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown service");
    }
    response->set_status(request->service().empty() ? HealthCheckResponse::SERVING
                                                    : HealthCheckResponse::NOT_SERVING);
    return grpc::Status::OK;
  }
};

FakeServer::FakeServer()
    : inference_(std::make_unique<Inference>(*this)),
      models_(std::make_unique<Models>()),
      health_(std::make_unique<Health>()) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(64 << 20);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(inference_.get());
  builder.RegisterService(models_.get());
  builder.RegisterService(health_.get());
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() { server_->Shutdown(absl::ToChronoTime(absl::Now())); }

}  // namespace attendant::client
