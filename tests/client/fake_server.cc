#include "tests/client/fake_server.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
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

// Whether `text` is the input that fails alone.
bool IsBad(const std::string& text, google::rpc::Status& status) {
  if (text != "bad") return false;
  status.set_code(grpc::StatusCode::INVALID_ARGUMENT);
  status.set_message("is a bad word");
  return true;
}

// The words of `text` and where they are; words have ASCII characters.
std::vector<std::pair<std::string, v1::TextSpan>> WordsOf(const std::string& text) {
  std::vector<std::pair<std::string, v1::TextSpan>> words;
  int begin = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    v1::TextSpan span;
    const int end = begin + static_cast<int>(word.size());
    span.set_byte_start(begin);
    span.set_byte_end(end);
    span.set_char_start(begin);
    span.set_char_end(end);
    if (!word.empty()) words.emplace_back(word, span);
    begin = end + 1;
  }
  return words;
}

// Most on the key that is `head` before the query, the less sharp the later the layer; sums to 1.
std::vector<float> WeightsOfQuery(int layer, int head, int query, int num_keys) {
  std::vector<float> weights;
  float sum = 0;
  for (int key = 0; key < num_keys; ++key) {
    const float distance = std::abs(query - head - key);
    weights.push_back(std::exp(-distance / static_cast<float>(layer + 1)));
    sum += weights.back();
  }
  for (float& weight : weights) weight /= sum;
  return weights;
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
      const std::string& text = input.has_image() ? input.image() : input.text();
      if (IsBad(text, *encoded.mutable_status())) continue;
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
    const std::string& text = request->text();
    google::rpc::RetryInfo retry;
    {
      const absl::MutexLock lock(&mutex_);
      server_.last_generate_ = *request;
      if (text == "busy" && num_busy_++ < 2) {
        retry.mutable_retry_delay()->set_nanos(20'000'000);
        return Fail(grpc::StatusCode::RESOURCE_EXHAUSTED, "64 requests wait already", retry);
      }
      if (absl::StartsWith(text, "late")) mutex_.Await(absl::Condition(&answered_early_));
    }
    const auto answered = absl::MakeCleanup([&] {
      const absl::MutexLock lock(&mutex_);
      if (absl::StartsWith(text, "early")) answered_early_ = true;
    });
    if (text == "overloaded") {
      retry.mutable_retry_delay()->set_seconds(1);
      retry.mutable_retry_delay()->set_nanos(500'000'000);
      return Fail(grpc::StatusCode::RESOURCE_EXHAUSTED, "64 requests wait already", retry);
    }
    if (text == "bad.") return Fail(grpc::StatusCode::INVALID_ARGUMENT, "is a bad word");
    if (request->model() == "none") return Fail(grpc::StatusCode::NOT_FOUND, "no such model");
    v1::GenerateResponse response;
    response.mutable_started()->set_request_id("fake-1");
    writer->Write(response);
    const std::vector<std::string> words = absl::StrSplit(text, ' ');
    for (const std::string& word : words) {
      v1::GenerateChunk& chunk = *response.mutable_chunk();
      chunk.set_text(absl::StrCat(word, " "));
      if (request->output().cross_attention()) {
        chunk.clear_tokens();
        chunk.add_tokens()->set_text(word);
        const int num_sources = static_cast<int>(text.size());
        *chunk.mutable_cross_attention() =
            ToMessage({{1, num_sources}, std::vector<float>(num_sources, 1.0f / num_sources)});
      }
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

  grpc::Status FillMask(grpc::ServerContext*, const v1::FillMaskRequest* request,
                        v1::FillMaskResponse* response) override {
    server_.last_fill_mask_ = *request;
    for (const v1::FillMaskInput& input : request->inputs()) {
      v1::FilledInput& filled = *response->add_inputs();
      if (IsBad(input.text(), *filled.mutable_status())) continue;
      for (const auto& [word, span] : WordsOf(input.text())) {
        if (word != "[MASK]") continue;
        v1::FilledMask& mask = *filled.add_masks();
        const int count = request->targets().empty() ? (request->has_top_k() ? request->top_k() : 5)
                                                     : request->targets_size();
        for (int i = 0; i < count; ++i) {
          v1::MaskCandidate& candidate = *mask.add_candidates();
          candidate.set_token_id(i);
          candidate.set_token(request->targets().empty() ? absl::StrCat("word", i)
                                                         : request->targets(i));
          candidate.set_score(std::ldexp(1.0f, -1 - i));
        }
      }
    }
    response->set_model("letters");
    return grpc::Status::OK;
  }

  grpc::Status Answer(grpc::ServerContext*, const v1::AnswerRequest* request,
                      v1::AnswerResponse* response) override {
    server_.last_answer_ = *request;
    for (const v1::AnswerInput& input : request->inputs()) {
      v1::AnsweredInput& answered = *response->add_inputs();
      if (IsBad(input.question(), *answered.mutable_status())) continue;
      const auto words = WordsOf(input.context());
      v1::AnswerSpan& answer = *answered.add_answers();
      answer.set_text(words[0].first);
      *answer.mutable_span() = words[0].second;
      answer.set_score(0.875);
      if (request->allow_no_answer()) answered.add_answers()->set_score(0.125);
    }
    response->set_model("letters");
    return grpc::Status::OK;
  }

  grpc::Status Classify(grpc::ServerContext*, const v1::ClassifyRequest* request,
                        v1::ClassifyResponse* response) override {
    server_.last_classify_ = *request;
    for (const v1::ClassifyInput& input : request->inputs()) {
      v1::ClassifiedInput& classified = *response->add_inputs();
      if (IsBad(input.text(), *classified.mutable_status())) continue;
      if (request->aggregation() != v1::TOKEN_AGGREGATION_UNSPECIFIED) {
        for (const auto& [word, span] : WordsOf(input.text())) {
          v1::LabeledSpan& labeled = *classified.add_spans();
          labeled.set_text(word);
          *labeled.mutable_span() = span;
          AddLabel("word", 0.5, *labeled.mutable_labels());
        }
        continue;
      }
      AddLabel(input.has_image() ? "images" : "texts", 0.75, *classified.mutable_labels());
      AddLabel(input.has_image() ? "texts" : "images", 0.25, *classified.mutable_labels());
    }
    response->set_model("letters");
    return grpc::Status::OK;
  }

  grpc::Status Rank(grpc::ServerContext*, const v1::RankRequest* request,
                    v1::RankResponse* response) override {
    server_.last_rank_ = *request;
    std::vector<v1::RankedDocument> ranked(request->documents_size());
    for (int i = 0; i < request->documents_size(); ++i) {
      ranked[i].set_index(i);
      const std::string& document = request->documents(i);
      if (!IsBad(document, *ranked[i].mutable_status())) ranked[i].set_score(1.0 / document.size());
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.score() > b.score(); });
    response->mutable_documents()->Add(ranked.begin(), ranked.end());
    response->set_model("letters");
    return grpc::Status::OK;
  }

  grpc::Status Attend(grpc::ServerContext*, const v1::AttendRequest* request,
                      grpc::ServerWriter<v1::AttendResponse>* writer) override {
    if (request->has_model()) return AttendModel(request->model(), *writer);
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
  grpc::Status AttendModel(const v1::ModelAttention& request,
                           grpc::ServerWriter<v1::AttendResponse>& writer) {
    server_.last_attend_ = request;
    if (request.model() == "none") return Fail(grpc::StatusCode::NOT_FOUND, "no such model");
    v1::AttendResponse response;
    v1::AttendStarted& started = *response.mutable_started();
    started.set_model("letters");
    for (const auto& [word, span] : WordsOf(request.text())) started.add_key_tokens(word);
    for (const auto& [word, span] : WordsOf(request.target_text())) started.add_query_tokens(word);
    if (request.target_text().empty()) *started.mutable_query_tokens() = started.key_tokens();
    int num_keys = started.key_tokens_size();
    if (request.has_image()) {
      started.mutable_patch_grid()->set_rows(2);
      started.mutable_patch_grid()->set_columns(3);
      started.mutable_patch_grid()->set_num_prefix_tokens(1);
      num_keys = 7;
    }
    const int num_queries = request.has_image() ? num_keys : started.query_tokens_size();
    const std::vector<int> layers =
        request.layers().empty()
            ? std::vector<int>{0, 1, 2}
            : std::vector<int>(request.layers().begin(), request.layers().end());
    const std::vector<int> heads =
        request.heads().empty() ? std::vector<int>{0, 1}
                                : std::vector<int>(request.heads().begin(), request.heads().end());
    const bool is_mean = request.reduction() == v1::ATTENTION_REDUCTION_MEAN_HEADS ||
                         request.reduction() == v1::ATTENTION_REDUCTION_ROLLOUT;
    const bool is_top = request.reduction() == v1::ATTENTION_REDUCTION_TOP_K;
    const int width = is_top ? request.top_k() : num_keys;
    if (!is_mean) started.add_weights_shape(heads.size());
    started.add_weights_shape(num_queries);
    started.add_weights_shape(width);
    writer.Write(response);

    for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
      for (const int head : is_mean ? std::vector<int>{0} : heads) {
        for (int query = num_queries - 1; query >= 0; --query) {
          v1::AttendBlock& block = *response.mutable_block();
          block.Clear();
          block.set_kind(request.kind());
          block.set_layer(*layer < 0 ? *layer + 3 : *layer);
          if (!is_mean) {
            block.mutable_heads()->set_begin(head);
            block.mutable_heads()->set_end(head + 1);
          }
          block.mutable_queries()->set_begin(query);
          block.mutable_queries()->set_end(query + 1);
          std::vector<float> row = WeightsOfQuery(block.layer(), head, query, num_keys);
          std::vector<int64_t> shape = {1, width};
          if (!is_mean) shape.insert(shape.begin(), 1);
          if (is_top) {
            v1::Tensor& keys = *block.mutable_keys();
            keys.set_dtype(v1::DATA_TYPE_INT32);
            keys.mutable_shape()->Add(shape.begin(), shape.end());
            // The keys from the last one: what is in which column does not matter.
            for (int i = 0; i < width; ++i) {
              const int32_t key = num_keys - 1 - i;
              keys.mutable_data()->append(reinterpret_cast<const char*>(&key), sizeof(key));
            }
            std::reverse(row.begin(), row.end());
            row.resize(width);
          }
          *block.mutable_weights() = ToMessage({shape, row});
          writer.Write(response);
        }
      }
    }
    response.mutable_finished();
    writer.Write(response);
    return grpc::Status::OK;
  }

  static void AddLabel(const std::string& name, float score,
                       google::protobuf::RepeatedPtrField<v1::LabelScore>& labels) {
    v1::LabelScore& label = *labels.Add();
    label.set_label(name);
    label.set_score(score);
  }

  FakeServer& server_;
  absl::Mutex mutex_;
  bool answered_early_ ABSL_GUARDED_BY(mutex_) = false;
  int num_busy_ ABSL_GUARDED_BY(mutex_) = 0;
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
