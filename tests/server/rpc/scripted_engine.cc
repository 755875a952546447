#include "tests/server/rpc/scripted_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace attendant::server {

EngineScript& Script() {
  static auto* const script = new EngineScript();
  return *script;
}

std::vector<engine::ModelDescription> ScriptedModels() {
  engine::ModelDescription encoder;
  encoder.name = "encoder";
  encoder.architecture = "bert";
  encoder.kind = "encoder";
  encoder.max_tokens = 16;
  encoder.embedding_size = 2;
  encoder.vocab_size = 100;
  encoder.num_layers = 3;
  encoder.tokenizer_kind = "WordPiece";
  encoder.prompts = {{"query", "query: "}};
  encoder.can_encode = true;
  engine::ModelDescription decoder = encoder;
  decoder.name = "decoder";
  decoder.architecture = "gpt2";
  decoder.kind = "decoder";
  decoder.heads = {"lm"};
  decoder.prompts = {};
  decoder.can_encode = false;
  decoder.can_generate = true;
  engine::ModelDescription classifier = encoder;
  classifier.name = "reader";
  classifier.heads = {"masked_lm", "question_answering", "sequence_classification"};
  classifier.labels = {"score"};
  classifier.can_encode = false;
  classifier.can_fill_mask = classifier.can_classify = true;
  classifier.can_rank = classifier.can_answer = true;
  return {decoder, encoder, classifier};
}

}  // namespace attendant::server

namespace attendant::engine {

class Engine::Impl {
 public:
  absl::Mutex mutex;
  std::vector<ModelDescription> models;
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions&,
                                                       std::function<void(const StepReport&)>) {
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>()));
}
Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::Status Engine::LoadModel(const ModelSource& source, std::function<void(double)> progress) {
  progress(0.5);
  if (server::Script().on_load) server::Script().on_load();
  for (const ModelDescription& model : server::Script().models) {
    if (model.name != source.name) continue;
    absl::MutexLock lock(&impl_->mutex);
    impl_->models.push_back(model);
    std::sort(impl_->models.begin(), impl_->models.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat(source.path, " is not there"));
}
absl::Status Engine::UnloadModel(const std::string&) {
  return absl::UnimplementedError("not scripted");
}
std::vector<ModelDescription> Engine::ListModels() const {
  absl::MutexLock lock(&impl_->mutex);
  return impl_->models;
}
absl::StatusOr<ModelDescription> Engine::GetModel(const std::string& name) const {
  for (const ModelDescription& model : ListModels()) {
    if (model.name == name) return model;
  }
  return absl::NotFoundError(name);
}
void Engine::Encode(EncodeRequest request, EncodeCallback done) {
  server::Script().encode(std::move(request), std::move(done));
}
void Engine::FillMask(FillMaskRequest request, FillMaskCallback done) {
  server::Script().fill_mask(std::move(request), std::move(done));
}
void Engine::Classify(ClassifyRequest request, ClassifyCallback done) {
  server::Script().classify(std::move(request), std::move(done));
}
void Engine::Rank(RankRequest request, RankCallback done) {
  server::Script().rank(std::move(request), std::move(done));
}
void Engine::Answer(AnswerRequest request, AnswerCallback done) {
  server::Script().answer(std::move(request), std::move(done));
}
void Engine::Generate(GenerateRequest request, std::shared_ptr<TokenSink> sink) {
  server::Script().generate(std::move(request), std::move(sink));
}
void Engine::Attend(AttendRequest request, std::shared_ptr<AttendSink> sink) {
  server::Script().attend(std::move(request), std::move(sink));
}
// One token for each byte.
void Engine::Tokenize(const std::string&, std::string text, std::optional<std::string>, bool,
                      TokenizeCallback done) {
  TokenizedText result;
  for (int32_t i = 0; i < static_cast<int32_t>(text.size()); ++i) {
    result.ids.push_back(static_cast<unsigned char>(text[i]));
    result.tokens.push_back(std::string(1, text[i]));
    result.byte_offsets.emplace_back(i, i + 1);
    result.code_point_offsets.emplace_back(i, i + 1);
    result.special.push_back(false);
  }
  std::move(done)(std::move(result));
}
void Engine::Detokenize(const std::string&, std::vector<int32_t> ids, bool,
                        DetokenizeCallback done) {
  std::move(done)(std::string(ids.begin(), ids.end()));
}
void Engine::Wake() { ++server::Script().num_wakes; }
EngineStats Engine::Stats() const {
  EngineStats stats;
  stats.num_threads = 1;
  stats.last_heartbeat = absl::Now();
  for (const ModelDescription& model : ListModels()) stats.models.push_back({.name = model.name});
  return stats;
}

}  // namespace attendant::engine
