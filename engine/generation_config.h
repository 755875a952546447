#ifndef ATTENDANT_ENGINE_GENERATION_CONFIG_H_
#define ATTENDANT_ENGINE_GENERATION_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "engine/sampler/logits_processors.h"

namespace attendant::engine {

// What a checkpoint says of how its text is generated: its generation_config.json, or config.json.
struct GenerationConfig {
  // As the reference library reads it: without "do_sample": true the temperature is 0 (greedy), and
  // with it top_k is 50 unless the file says otherwise.
  SamplingParams sampling = {.temperature = 0};
  BeamSearchParams beam_search;
  int32_t num_sequences = 1;
  std::vector<int32_t> eos_token_ids;
  // What an encoder-decoder's output begins after: as stated, else bos_token_id, else pad_token_id.
  std::optional<int32_t> decoder_start_token_id;
  TokenConstraints constraints;
  int32_t min_new_tokens = 0;
  int32_t min_length = 0;  // of prompt and output together; where min_new_tokens is 0
  std::optional<int32_t> max_new_tokens;
  std::optional<int32_t> max_length;  // of prompt and output together
};

// Reads the contents of generation_config.json, or if that is null (the folder has none) the same
// settings from `config_json`, the contents of config.json, where older checkpoints keep them.
// End-of-sequence ids and the decoder's start are taken from there, too, where the former has none.
// INVALID_ARGUMENT names file, field, value and limit.
absl::StatusOr<GenerationConfig> ReadGenerationConfig(const std::string* generation_config_json,
                                                      absl::string_view config_json);

// INVALID_ARGUMENT unless an encoder-decoder's output has a start token, of the `vocab_size` that
// it writes.
absl::Status CheckDecoderStart(const GenerationConfig& config, int32_t vocab_size);

// INVALID_ARGUMENT, with the setting's name, if `config` bans or forces a token outside of the
// vocabulary.
absl::Status CheckTokenConstraints(const GenerationConfig& config, int32_t vocab_size);

// What bounds one generation.
struct GenerationLimits {
  int32_t vocab_size = 0;
  int64_t context_tokens = 0;  // prompt and output together
  int64_t cache_tokens = 0;    // that the key-value cache holds
  int32_t block_size = 1;      // the tokens of one block of it
  int64_t source_tokens = 0;   // of an encoder-decoder, the longest source; else 0
  int32_t max_new_tokens = 0;
  int32_t max_beams = 16;
};

// Checks what a request asks for, but for its prompt: INVALID_ARGUMENT with the field's path for
// values outside their range, ids outside the vocabulary, and more than limits.max_new_tokens.
absl::Status CheckGenerateRequest(const GenerateRequest& request, const GenerationLimits& limits);

// The search in effect: the request's, else the checkpoint's if the request does not ask for a
// temperature; and how many sequences are returned. A search that the checkpoint asks for has at
// most limits.max_beams. INVALID_ARGUMENT if the request asks for what a search does not do: to
// sample, to return more sequences than it has beams, to stop at strings, to name alternatives.
absl::Status ResolveBeamSearch(const GenerateRequest& request, const GenerationConfig& config,
                               const GenerationLimits& limits, BeamSearchParams& beam_search,
                               int32_t& num_sequences);

// How many tokens each of so many beams can have, if all have their first `common_tokens` in
// common.
int64_t CacheTokensOfABeam(const GenerationLimits& limits, int64_t common_tokens,
                           int32_t num_beams);

// The values in effect: the request's, else the checkpoint's. Without a seed takes `random_seed`.
// max_new_tokens is cut to what the context leaves behind a prompt of `prompt_tokens` <
// limits.context_tokens and, if the request does not set it, to what the cache holds. The request
// was checked.
void ResolveGeneration(const GenerateRequest& request, const GenerationConfig& config,
                       const GenerationLimits& limits, int64_t prompt_tokens, uint64_t random_seed,
                       SamplingParams& sampling, StoppingCriteria& stopping);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_GENERATION_CONFIG_H_
