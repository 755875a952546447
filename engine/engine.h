#ifndef ATTENDANT_ENGINE_ENGINE_H_
#define ATTENDANT_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/data_type.h"
#include "engine/request.h"

namespace attendant::engine {

struct EngineOptions {
  // Threads that compute, the engine's own included. 0: what the process may use, see
  // base/cpu_topology.h.
  int num_threads = 0;
  bool pin_threads = true;

  // Threads that turn text into ids and back; as many others decode images.
  int num_tokenizer_threads = 1;

  // The most tokens of one step: how many texts are encoded together, and how long a chunk of a
  // prompt is. More is throughput, fewer is latency (and memory: activations are sized for it).
  int32_t max_batch_tokens = 2048;

  // The most sequences that generate at a time, for each model.
  int32_t max_running_sequences = 64;

  // The most beams of one search; max_running_sequences bounds them too.
  int32_t max_beams = 16;

  // How long prompt chunks may make a step that others wait for; tokens that fit are measured.
  absl::Duration target_step_time = absl::Milliseconds(100);

  // Keys and values of past tokens, for each model that generates.
  int64_t kv_cache_bytes = int64_t{1} << 30;
  int32_t kv_cache_block_size = 16;

  // Bounds on one request.
  int32_t max_new_tokens = 4096;
  int64_t max_attend_bytes = int64_t{256} << 20;  // results of one Attend
  int64_t max_encode_bytes = int64_t{1} << 30;    // vectors of one Encode, as float
  int64_t max_map_bytes = int64_t{1} << 30;       // a model's maps of one Attend

  // Pixels of one image, as its file says before it is decoded. Decoding takes up to 11 bytes a
  // pixel for each tokenizer thread. More than the cameras of phones have, less than what Pillow
  // warns of.
  int64_t max_image_pixels = int64_t{64} << 20;

  // Keep the packed weights of each model in a file, which later starts map instead of packing them
  // again: if set, in this folder, or beside the model if it is empty. What goes wrong with such a
  // file is logged; the model is loaded all the same.
  std::optional<std::string> packed_cache;

  // Refuse to load a model for which oneDNN has only reference code.
  bool strict_kernels = false;
};

struct ModelSource {
  std::string name;  // what requests call it
  std::string path;  // a Hugging Face folder, or a GGUF file
  // Of weights: kFloat32, kBFloat16, kInt8 or kInt4. Unset: as they are stored if a GGUF file has
  // them quantized, else kBFloat16 where the CPU multiplies it, else kFloat32.
  std::optional<DataType> dtype;
  std::optional<int32_t> max_tokens;  // a context shorter than the model's own
};

// What a loaded model is.
struct ModelDescription {
  std::string name;
  std::string path;
  std::string architecture;  // model_type
  std::string kind;          // "encoder", "decoder" or "encoder-decoder"
  int64_t num_parameters = 0;
  DataType dtype = DataType::kFloat32;
  int64_t weight_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int32_t max_tokens = 0;
  int32_t embedding_size = 0;  // 0 for a decoder that makes none
  int32_t vocab_size = 0;      // of an encoder-decoder: the source's
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t hidden_size = 0;
  // Of a model that reads images: their size and that of a patch, in pixels; else 0.
  int32_t image_height = 0;
  int32_t image_width = 0;
  int32_t patch_height = 0;
  int32_t patch_width = 0;
  int32_t max_source_tokens = 0;       // of an encoder-decoder; else 0
  int32_t target_vocab_size = 0;       // as well: what it writes; vocab_size is of what it reads
  std::vector<std::string> languages;  // that it translates between, if it is told which
  std::vector<std::string> heads;      // heads the checkpoint carries: "lm", "masked_lm", ...
  std::string tokenizer_kind;  // Tokenizer::kind(); empty if the checkpoint has no tokenizer
  Pooling default_pooling = Pooling::kMean;
  bool default_normalize = false;
  std::map<std::string, std::string> prompts;  // prefixes by name
  bool can_encode = false;
  bool can_generate = false;
  bool can_fill_mask = false;
  bool can_classify = false;
  bool can_answer = false;
  bool can_rank = false;
  bool labels_tokens = false;       // Classify gives spans, not labels of whole inputs
  std::vector<std::string> labels;  // of Classify
};

struct TokenizedText {
  std::vector<int32_t> ids;
  std::vector<std::string> tokens;
  std::vector<std::pair<int32_t, int32_t>> byte_offsets;        // [begin, end)
  std::vector<std::pair<int32_t, int32_t>> code_point_offsets;  // [begin, end)
  std::vector<bool> special;
  std::vector<int32_t> type_ids;
};

// One model's state now, for metrics.
struct ModelStats {
  std::string name;
  int64_t requests_running = 0;
  int64_t requests_waiting = 0;
  int64_t tokens_waiting = 0;
  double kv_cache_usage_ratio = 0;
  int64_t weight_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t preemptions = 0;  // since the model was loaded
};

struct EngineStats {
  std::vector<ModelStats> models;
  int64_t workspace_bytes = 0;
  int num_threads = 0;
  int64_t steps = 0;
  int64_t reference_kernels = 0;  // linear layers for which oneDNN has only reference code
  absl::Time last_heartbeat;      // the step loop's; it beats at least once a second, idle or not
};

// One step that was computed, reported as it ends.
struct StepReport {
  std::string model;
  std::string phase;  // "encode", "prefill", "decode", "mixed" or "attend"
  absl::Duration duration;
  int32_t num_tokens = 0;
  int32_t num_sequences = 0;
};

// Runs transformers on the CPU. One thread, the engine's, runs the step loop for every loaded model
// and leads the team of OpenMP threads; nothing else computes. All methods may be called from any
// thread; those marked asynchronous return at once, and answer from the engine's threads.
class Engine {
 public:
  // `on_step`, if set, is called on the engine's thread after each step; it must be quick.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, std::function<void(const StepReport&)> on_step = nullptr);

  // Ends every request with UNAVAILABLE, and the threads. No call may be in progress.
  ~Engine();

  // Loads a model and makes it available; requests for others run on meanwhile. Blocks. `progress`,
  // if set, is called with a value from 0 to 1 as weights are packed. ALREADY_EXISTS if the name is
  // taken.
  absl::Status LoadModel(const ModelSource& source, std::function<void(double)> progress = nullptr);

  // Waits for the model's requests to end, then frees it. New ones get NOT_FOUND at once. NOT_FOUND
  // if absent.
  absl::Status UnloadModel(const std::string& name);

  std::vector<ModelDescription> ListModels() const;  // sorted by name

  // NOT_FOUND lists what is loaded. An empty name is the only loaded model, or else
  // INVALID_ARGUMENT.
  absl::StatusOr<ModelDescription> GetModel(const std::string& name) const;

  // Asynchronous. `done` is called once. A request all of whose inputs are bad fails as a whole.
  using EncodeCallback = absl::AnyInvocable<void(absl::StatusOr<EncodeResult>) &&>;
  void Encode(EncodeRequest request, EncodeCallback done);

  // Asynchronous, as Encode. FAILED_PRECONDITION if the model lacks the head, saying what it has.
  using FillMaskCallback = absl::AnyInvocable<void(absl::StatusOr<FillMaskResult>) &&>;
  void FillMask(FillMaskRequest request, FillMaskCallback done);
  using ClassifyCallback = absl::AnyInvocable<void(absl::StatusOr<ClassifyResult>) &&>;
  void Classify(ClassifyRequest request, ClassifyCallback done);
  using RankCallback = absl::AnyInvocable<void(absl::StatusOr<RankResult>) &&>;
  void Rank(RankRequest request, RankCallback done);
  using AnswerCallback = absl::AnyInvocable<void(absl::StatusOr<AnswerResult>) &&>;
  void Answer(AnswerRequest request, AnswerCallback done);

  // Asynchronous. The sink's OnDone is called once, whatever happens.
  void Generate(GenerateRequest request, std::shared_ptr<TokenSink> sink);

  // Asynchronous.
  void Attend(AttendRequest request, std::shared_ptr<AttendSink> sink);

  // Asynchronous, on the tokenizer threads.
  using TokenizeCallback = absl::AnyInvocable<void(absl::StatusOr<TokenizedText>) &&>;
  void Tokenize(const std::string& model, std::string text, std::optional<std::string> text_pair,
                bool add_special_tokens, TokenizeCallback done);
  using DetokenizeCallback = absl::AnyInvocable<void(absl::StatusOr<std::string>) &&>;
  void Detokenize(const std::string& model, std::vector<int32_t> ids, bool skip_special_tokens,
                  DetokenizeCallback done);

  // Makes the step loop look at its requests again: after a RequestControl was cancelled, or an
  // AttendSink became ready.
  void Wake();

  EngineStats Stats() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ENGINE_H_
