#ifndef ATTENDANT_ENGINE_GENERATE_JOB_H_
#define ATTENDANT_ENGINE_GENERATE_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/loaded_model.h"
#include "engine/request.h"
#include "engine/sampler/beam_search.h"
#include "engine/sampler/logits_processors.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler/sequence.h"
#include "engine/stop_matcher.h"
#include "engine/tokenizer/stream_decoder.h"

namespace attendant::engine {

struct GenerateSequence;

// One Generate on its way: what it asks for, and the sequences that it runs.
struct GenerateJob {
  explicit GenerateJob(InFlight in_flight);
  ~GenerateJob();

  bool has_source() const { return !source.tokens.empty(); }

  // Checked, with the checkpoint's values filled in.
  InFlight in_flight;
  std::shared_ptr<RequestControl> control;
  std::shared_ptr<TokenSink> sink;
  Source source;                              // of an encoder-decoder
  std::vector<int32_t> prompt;                // of an encoder-decoder, what its decoder begins with
  std::optional<int32_t> forced_first_token;  // behind a start token alone: the target language's
  std::string echo;                           // the text that comes first
  SamplingParams sampling;
  StoppingCriteria stopping;
  std::vector<int32_t> end_tokens;  // stop ids and, unless ignored, end-of-sequence ids
  std::optional<LogitsProcessors> processors;
  BeamSearchParams beam_search;
  int32_t original_tokens = 0;  // of what the caller gave, before truncation
  int64_t input_tokens = 0;     // and after it
  int32_t num_sequences = 1;
  int32_t top_logprobs = 0;
  bool logprobs = false;
  bool prompt_logprobs = false;
  bool cross_attention = false;
  int32_t priority = 0;
  bool cache_prefix = true;

  std::vector<std::unique_ptr<GenerateSequence>>
      sequences;  // those that were begun and have not ended
  int32_t num_begun = 0;
  // With beams: the sequences are those and, in the end, the hypotheses.
  std::optional<BeamSearch> search;
  size_t num_streamed = 0;                    // tokens of the best hypothesis that were given
  bool was_started = false;                   // OnStarted was called
  std::vector<GeneratedToken> prompt_tokens;  // scored so far

  absl::Time submitted;
  absl::Time tokenized;
  absl::Time admitted = absl::InfiniteFuture();  // its first step
  absl::Duration compute;
};

// One sample. What the scheduler knows of it is its base.
struct GenerateSequence : Sequence {
  GenerateSequence(GenerateJob& job, int32_t index);

  int32_t num_output() const { return static_cast<int32_t>(tokens.size() - job.prompt.size()); }

  // The text that `token`, the newest, makes certain. Sets `stop` if a stop string ended the
  // output.
  std::string PushText(int32_t token, std::optional<std::string>& stop);

  // The text held back, now that the output ends. Sets `stop` if a stop string is found in it.
  std::string FinishText(std::optional<std::string>& stop);

  GenerateJob& job;
  const int32_t index;
  Sampler sampler;
  const Tokenizer* const tokenizer;      // of the output; null if there is none
  std::optional<StreamDecoder> decoder;  // with a tokenizer
  StopMatcher stop_matcher;
  std::shared_ptr<const std::vector<float>> source_weights;  // of the last step, if asked for
  double score = 0;
  bool echo_given = false;
  absl::Time first_token = absl::InfiniteFuture();
};

// Checks the request, turns its prompt, or its source and what its decoder begins with, into ids
// and fills in what it leaves to the checkpoint. Errors are INVALID_ARGUMENT, or
// FAILED_PRECONDITION if the model cannot generate. On success the job owns `sink`.
absl::StatusOr<std::unique_ptr<GenerateJob>> PrepareGenerate(GenerateRequest request,
                                                             std::shared_ptr<TokenSink> sink,
                                                             InFlight in_flight,
                                                             absl::Time submitted,
                                                             uint64_t random_seed);

// The text that a token adds, the space before a word included; U+FFFD for what is not whole UTF-8
// in it. Empty without a tokenizer.
std::string TokenText(const Tokenizer* tokenizer, int32_t id);
inline std::string TokenText(const LoadedModel& model, int32_t id) {
  return TokenText(model.tokenizer.get(), id);
}

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_GENERATE_JOB_H_
