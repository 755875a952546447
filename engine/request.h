#ifndef ATTENDANT_ENGINE_REQUEST_H_
#define ATTENDANT_ENGINE_REQUEST_H_

// What is asked of the engine, and what it answers. These are values: plain data that any thread
// may make, move and read. Limits that depend on the model (vocabulary, positions) are checked by
// the engine; all others by whoever makes the request.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

// ---------------------------------------------------------------------------------------------------------------------
// Common to all requests.

// The thread of control between a caller and its request. Shared: the caller sets it, the engine
// looks at it before each step, and stops the work that nobody waits for.
struct RequestControl {
  std::string request_id;
  absl::Time deadline = absl::InfiniteFuture();
  std::atomic<bool> cancelled{false};

  // OK, CANCELLED or DEADLINE_EXCEEDED.
  absl::Status Check(absl::Time now) const {
    if (cancelled.load(std::memory_order_relaxed))
      return absl::CancelledError("cancelled by the caller");
    if (now >= deadline) return absl::DeadlineExceededError("the deadline passed");
    return absl::OkStatus();
  }
};

enum class TruncationSide : uint8_t { kNone, kRight, kLeft };

struct Truncation {
  TruncationSide side = TruncationSide::kNone;  // kNone: too long an input is INVALID_ARGUMENT
  std::optional<int32_t> max_tokens;            // >= 1; unset: what the model takes
};

struct RequestTimings {
  absl::Duration queue;     // waiting for the engine
  absl::Duration tokenize;  // text to ids
  absl::Duration compute;   // in steps that this request took part in
  absl::Duration total;     // from Submit to the end
  absl::Duration time_to_first_token = absl::ZeroDuration();  // generation only
};

struct RequestUsage {
  int64_t input_tokens = 0;
  int64_t cached_tokens = 0;  // of those, not computed again
  int64_t output_tokens = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Encode.

struct TextPair {
  std::string text;
  std::string text_pair;
};
using TokenIds = std::vector<int32_t>;  // taken as they are: no special tokens are added

struct ImageFile {
  std::string bytes;  // an encoded PNG or JPEG
};

using EncodeInput = std::variant<std::string, TextPair, TokenIds, ImageFile>;

enum class Pooling : uint8_t { kModelDefault, kMean, kCls, kMax, kLastToken, kNone };

struct EncodeRequest {
  std::string model;  // a loaded model's name; never empty here
  std::vector<EncodeInput> inputs;
  Pooling pooling = Pooling::kModelDefault;
  std::optional<bool> normalize;  // unset: the model's own
  std::optional<int32_t>
      dimensions;  // keep the first so many values, then normalize again (if normalizing)
  DataType output_dtype = DataType::kFloat32;  // kFloat32, kFloat16, kBFloat16, kInt8 or kBinary
  std::optional<std::string>
      prompt_name;                    // one of the model's named prompts; put before every text
  std::optional<std::string> prompt;  // put before every text
  Truncation truncation;
  std::vector<int32_t> hidden_layers;  // 0 = embeddings, num_hidden_layers or -1 = last
  std::shared_ptr<RequestControl> control;
};

struct EncodedInput {
  absl::Status status;  // of this input alone
  int32_t row = -1;     // its first row of `embeddings`; -1 if it failed
  int32_t num_rows = 0;
  int32_t num_tokens = 0;       // that were computed
  int32_t original_tokens = 0;  // before truncation
};

struct EncodeResult {
  Tensor embeddings;                  // [rows, dimensions]
  std::vector<EncodedInput> inputs;   // one for each input, in order
  std::vector<Tensor> hidden_states;  // one for each of hidden_layers: f32 [sum of num_tokens of
                                      // good inputs, hidden_size]
  RequestUsage usage;
  RequestTimings timings;
};

// ---------------------------------------------------------------------------------------------------------------------
// What the heads of encoders say. As of Encode: an input that is bad fails alone, with a status of
// its own; a request fails as a whole if every input is bad, or it is itself.

// A part of a text, half-open, in bytes of UTF-8 and in code points.
struct TextSpan {
  int32_t byte_begin = 0, byte_end = 0;
  int32_t char_begin = 0, char_end = 0;
};

using FillMaskInput = std::variant<std::string, TokenIds>;

struct FillMaskRequest {
  std::string model;
  std::vector<FillMaskInput> inputs;  // each has the model's mask token at least once
  int32_t top_k = 5;                  // candidates for each mask; [1, 1000]
  std::vector<std::string> targets;   // score these alone, each one token; empty: all tokens
  Truncation truncation;
  std::shared_ptr<RequestControl> control;
};

struct MaskCandidate {
  int32_t id = 0;
  std::string token;  // its text
  float score = 0;    // its probability among all of the vocabulary, with targets as well
};

struct FilledMask {
  int32_t token_index = 0;
  std::vector<MaskCandidate> candidates;  // the best first
};

struct FilledInput {
  absl::Status status;
  std::vector<FilledMask> masks;  // in the order of the text
  int32_t num_tokens = 0;
  int32_t original_tokens = 0;
};

struct FillMaskResult {
  std::vector<FilledInput> inputs;
  RequestUsage usage;
  RequestTimings timings;
};

using ClassifyInput = EncodeInput;

enum class TokenAggregation : uint8_t { kNone, kEntity };

struct ClassifyRequest {
  std::string model;
  std::vector<ClassifyInput> inputs;
  std::optional<int32_t> top_k;  // >= 1; unset: all of an input's labels, the best of a token's
  bool raw_scores = false;       // logits
  std::optional<TokenAggregation> aggregation;  // of models that label tokens alone
  Truncation truncation;
  std::shared_ptr<RequestControl> control;
};

struct LabelScore {
  std::string label;
  float score = 0;
};

struct LabeledSpan {
  std::vector<LabelScore> labels;  // the best first
  TextSpan span;                   // empty where the input was token ids
  std::string text;
};

struct ClassifiedInput {
  absl::Status status;
  std::vector<LabelScore> labels;  // the best first; of a model that labels inputs
  std::vector<LabeledSpan> spans;  // in the order of the text; of a model that labels tokens
  int32_t num_tokens = 0;
  int32_t original_tokens = 0;
};

struct ClassifyResult {
  std::vector<ClassifiedInput> inputs;
  RequestUsage usage;
  RequestTimings timings;
};

struct RankRequest {
  std::string model;
  std::string query;
  std::vector<std::string> documents;
  std::optional<int32_t> top_n;  // >= 1; unset: all
  bool raw_scores = false;       // logits
  Truncation truncation;         // of the documents; a query is never cut
  std::shared_ptr<RequestControl> control;
};

struct RankedDocument {
  int32_t index = 0;  // in RankRequest::documents
  absl::Status status;
  float score = 0;
  int32_t num_tokens = 0;
  int32_t original_tokens = 0;
};

struct RankResult {
  std::vector<RankedDocument> documents;  // the best first, at most top_n; then all that failed
  RequestUsage usage;
  RequestTimings timings;
};

struct AnswerInput {
  std::string question;
  std::string context;  // of any length: it is read in overlapping windows
};

struct AnswerRequest {
  std::string model;
  std::vector<AnswerInput> inputs;
  int32_t top_k = 1;                             // [1, 100]
  int32_t max_answer_tokens = 15;                // >= 1
  std::optional<int32_t> window_overlap_tokens;  // >= 0; unset: 128, or half of a small window
  bool allow_no_answer = false;
  std::shared_ptr<RequestControl> control;
};

struct AnswerSpan {
  std::string text;
  float score = 0;
  std::optional<TextSpan> span;  // of the context; unset for "no answer"
};

struct AnsweredInput {
  absl::Status status;
  std::vector<AnswerSpan> answers;  // the best first
  int32_t num_tokens = 0;           // over all windows
};

struct AnswerResult {
  std::vector<AnsweredInput> inputs;
  RequestUsage usage;
  RequestTimings timings;
};

// ---------------------------------------------------------------------------------------------------------------------
// Generate.

struct SamplingParams {
  float temperature = 1.0f;          // >= 0; 0 = greedy
  int32_t top_k = 0;                 // 0 = all
  float top_p = 1.0f;                // (0, 1]
  float min_p = 0.0f;                // [0, 1]
  float repetition_penalty = 1.0f;   // > 0; Keskar et al., "CTRL", 2019; prompt and output tokens
  float presence_penalty = 0.0f;     // [-2, 2]; output tokens
  float frequency_penalty = 0.0f;    // [-2, 2]; output tokens
  int32_t no_repeat_ngram_size = 0;  // no run of so many tokens occurs twice, the prompt included;
                                     // 0 = any may
  std::map<int32_t, float> logit_bias;
  uint64_t seed = 0;
};

// When a beam search ends that still could go on: what the reference library calls early_stopping.
enum class EarlyStopping : uint8_t {
  kFalse,  // num_beams hypotheses are complete, and the best beam, ended now, would be worse
  kTrue,   // num_beams hypotheses are complete
  kNever,  // num_beams hypotheses are complete, and no beam could become better at any length
};

struct BeamSearchParams {
  int32_t num_beams = 1;  // 1 = no search
  // The sum of a hypothesis's log probabilities is divided by its length to this power, [-10, 10].
  float length_penalty = 1.0f;
  EarlyStopping early_stopping = EarlyStopping::kFalse;
};

struct StoppingCriteria {
  int32_t max_new_tokens = 0;
  int32_t min_new_tokens = 0;
  std::vector<std::string> stop;        // text that ends the output, and is not part of it
  std::vector<int32_t> stop_token_ids;  // beside the model's own end-of-sequence ids
  bool ignore_eos = false;
};

struct GenerateRequest {
  std::string model;
  std::variant<std::string, TokenIds> prompt;  // of an encoder-decoder: the source

  // Encoder-decoders only. What the output begins with: it follows the start token and the target
  // language's, is not given back as output, and is text for the target's tokenizer or its ids.
  std::variant<std::monostate, std::string, TokenIds> decoder_prefix;
  std::string source_language;  // as Languages spells it; empty: the checkpoint's default
  std::string target_language;

  // Unset fields take the values of the checkpoint's generation_config.json, else the defaults of
  // SamplingParams and StoppingCriteria; an unset seed is drawn at random; max_new_tokens is at
  // most what the context leaves.
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<int32_t> no_repeat_ngram_size;
  std::map<int32_t, float> logit_bias;
  std::optional<uint64_t> seed;
  std::optional<int32_t> max_new_tokens;
  std::optional<int32_t> min_new_tokens;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;

  // Beam search, which does not sample: unset fields take the values of generation_config.json,
  // unless the request asks for a temperature. num_beams is at most GenerationLimits::max_beams.
  std::optional<int32_t> num_beams;
  std::optional<float> length_penalty;
  std::optional<EarlyStopping> early_stopping;

  // So many samples of one prompt, with seeds seed, seed + 1, ...; or the best hypotheses of a beam
  // search, at most num_beams, the best first. Unset: generation_config.json's, where it can be,
  // else 1.
  std::optional<int32_t> num_sequences;
  int32_t top_logprobs =
      0;  // alternatives reported for each token; 0: none. Logprobs are of the raw logits
  bool logprobs = false;  // report each token's own logprob
  // Of an encoder-decoder the prompt is, for these two, what its decoder begins with.
  bool prompt_logprobs =
      false;          // report the prompt's tokens with their logprobs before the first chunk
  bool echo = false;  // the prompt's text comes first
  bool cross_attention = false;  // encoder-decoders only: report what each token attended to
  Truncation truncation;
  int32_t priority = 0;      // higher first among the waiting
  bool cache_prefix = true;  // share cache blocks of equal prefixes, now and later
  std::shared_ptr<RequestControl> control;
};

struct TokenLogprob {
  int32_t id = 0;
  std::string text;  // its own, the space before a word included
  float logprob = 0;
};

struct GeneratedToken {
  int32_t id = 0;
  std::string text;   // its own, the space before a word included
  float logprob = 0;  // set when asked for
  std::vector<TokenLogprob> top;
};

enum class FinishReason : uint8_t { kEos, kStopSequence, kLength };

struct GenerateStarted {
  SamplingParams sampling;  // as they will be used, the seed included
  StoppingCriteria stopping;
  BeamSearchParams beam_search;
  RequestUsage usage;                         // input and cached tokens
  int32_t original_tokens = 0;                // of the prompt, before truncation
  std::vector<GeneratedToken> prompt_tokens;  // with prompt_logprobs
};

struct GenerateChunk {
  int32_t sequence = 0;
  std::string text;  // whole UTF-8, perhaps empty
  std::vector<GeneratedToken> tokens;
  std::vector<float> cross_attention;  // if asked for, [tokens.size(), source tokens]: the mean
                                       // over the heads of the last layer
};

struct GenerateFinished {
  int32_t sequence = 0;
  FinishReason reason = FinishReason::kEos;
  std::variant<std::monostate, std::string, int32_t>
      stop_match;  // the stop string, or the stop or EOS token
  // Of a beam search its hypothesis's score, else the sum of the output's logprobs where these were
  // asked for.
  std::optional<float> score;
  RequestUsage usage;
  RequestTimings timings;
};

// Receives what a generation yields: OnStarted once, chunks, one OnFinished for each sequence, and
// then OnDone. After an error OnDone comes at once. Called by the engine's threads, one call at a
// time; must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnStarted(GenerateStarted started) = 0;
  virtual void OnChunk(GenerateChunk chunk) = 0;
  virtual void OnFinished(GenerateFinished finished) = 0;
  virtual void OnDone(absl::Status status) = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// Attend.

struct AttentionMask {
  bool causal = false;
  std::optional<int32_t> sliding_window;  // >= 1
  std::optional<Tensor>
      mask;  // BOOL (true keeps) or FLOAT32 (added), broadcastable to [.., heads, q_len, kv_len]
  std::optional<float> scale;  // unset: 1/sqrt(head_dim)
};

// Attention on tensors: query [.., heads, q_len, d], key [.., kv_heads, kv_len, d], value [..,
// kv_heads, kv_len, value_d]; a batch axis is optional.
struct AttendTensors {
  Tensor query, key, value;  // FLOAT32, FLOAT16 or BFLOAT16
  AttentionMask mask;
  bool return_weights = false;
  bool return_lse = false;
};

// A multi-head attention layer. Weights are [out, in], as torch.nn.Linear keeps them.
struct AttendLayer {
  Tensor query, key, value;  // [.., len, d_model]; an empty key or value (no shape) is the query
  int32_t num_heads = 1;
  std::optional<int32_t> num_key_value_heads;
  Tensor w_q, w_k, w_v, w_o;
  std::optional<Tensor> b_q, b_k, b_v, b_o;
  AttentionMask mask;
  bool return_weights = false;
};

// A half-open range of indices.
struct IndexRange {
  int32_t begin = 0;
  int32_t end = 0;

  int32_t size() const { return end - begin; }
};

enum class AttentionKind : uint8_t { kModelDefault, kEncoderSelf, kDecoderSelf, kCross };

enum class AttentionReduction : uint8_t { kNone, kMeanHeads, kMeanLayers, kRollout, kTopK };

// The attention maps inside a loaded model.
struct AttendModel {
  std::string model;  // as EncodeRequest's
  EncodeInput input;  // of an encoder-decoder, the source
  std::optional<std::variant<std::string, TokenIds>>
      target;  // of encoder-decoders only: what the decoder is run on
  AttentionKind kind = AttentionKind::kModelDefault;  // its only one
  std::vector<int32_t> layers;                        // from 0, -1 the last; empty: all
  std::vector<int32_t> heads;                         // from 0; empty: all
  std::optional<IndexRange> query_range;              // unset: all
  std::optional<IndexRange> key_range;                // unset: all
  AttentionReduction reduction = AttentionReduction::kNone;
  int32_t top_k = 8;  // >= 1; of kTopK
  Truncation truncation;
};

struct AttendRequest {
  std::variant<AttendTensors, AttendLayer, AttendModel> source;
  std::shared_ptr<RequestControl> control;
};

enum class AttendOutput : uint8_t { kOutput, kWeights, kLogSumExp };

// The tokens of an image: some before its patches, then these, row by row.
struct PatchGrid {
  int32_t rows = 0;  // 0: no image
  int32_t columns = 0;
  int32_t num_prefix_tokens = 0;
};

// What will come, in order, before any of it.
struct AttendStarted {
  std::vector<int64_t> output_shape;
  std::vector<int64_t> weights_shape;  // empty if not asked for; of a model: one layer's
  std::vector<int64_t> lse_shape;      // empty if not asked for

  // Of a model: what the rows and the columns are called, and the tokens that were computed.
  std::vector<std::string> query_tokens, key_tokens;
  PatchGrid patch_grid;
  RequestUsage usage;
};

// A part of one result: rows [query_begin, query_end) of heads [head_begin, head_end) of batch
// entry `batch`. What has no heads, as a layer's output and a mean over them, has an empty range of
// them.
struct AttendBlock {
  AttendOutput kind = AttendOutput::kOutput;
  int64_t batch = 0;
  int32_t head_begin = 0, head_end = 0;
  int32_t query_begin = 0, query_end = 0;
  Tensor tensor;  // f32; output [heads, queries, value_d] (a layer's: [queries, d_model]), weights
                  // [heads, queries, keys] or [queries, keys], log-sum-exp [heads, queries]; less
                  // than 1 MiB of data

  // Of a model's maps, whose heads and rows are counted as the model and the input do.
  AttentionKind attention = AttentionKind::kModelDefault;
  int32_t layer = 0;
  Tensor keys;  // i32, for kTopK: the key of each weight; else without data
};

// Receives the blocks of one Attend, as TokenSink does tokens. The engine computes a block only
// when Ready() says that there is room for one more: a slow reader holds back its own work, in no
// more memory than a few blocks. Whoever turns unready to ready calls Engine::Wake.
class AttendSink {
 public:
  virtual ~AttendSink() = default;
  virtual bool Ready() = 0;
  virtual void OnStarted(AttendStarted started) = 0;
  virtual void OnBlock(AttendBlock block) = 0;
  virtual void OnDone(absl::Status status, RequestTimings timings) = 0;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_REQUEST_H_
