#include "client/cli/generate_flags.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/cli/flags.h"

ABSL_FLAG(std::optional<float>, temperature, std::nullopt,
          "0: the most likely token each time; higher: more varied");
ABSL_FLAG(std::optional<float>, top_p, std::nullopt,
          "Choose among the most likely tokens that add up to this");
ABSL_FLAG(std::optional<float>, min_p, std::nullopt,
          "Drop tokens less likely than this times the most likely");
ABSL_FLAG(std::optional<float>, repetition_penalty, std::nullopt,
          "Above 1: avoid what the text has already");
ABSL_FLAG(std::optional<float>, presence_penalty, std::nullopt,
          "Above 0: avoid what the output has already");
ABSL_FLAG(std::optional<float>, frequency_penalty, std::nullopt,
          "Above 0: avoid what the output has often");
ABSL_FLAG(std::optional<uint64_t>, seed, std::nullopt,
          "Of the random numbers; the same seed gives the same text");
ABSL_FLAG(std::optional<int32_t>, max_new_tokens, std::nullopt, "The most tokens to generate");
ABSL_FLAG(std::optional<int32_t>, min_new_tokens, std::nullopt, "The fewest tokens to generate");
ABSL_FLAG(std::vector<std::string>, stop, {},
          "Strings that end the text, separated by commas; \\n and the like work");
ABSL_FLAG(std::vector<std::string>, stop_token_ids, {},
          "Token ids that end the text, separated by commas");
ABSL_FLAG(bool, ignore_eos, false, "Go on past the model's end-of-sequence token");
ABSL_FLAG(bool, cache_prefix, true, "Use and fill the server's prefix cache");
ABSL_FLAG(int32_t, priority, 0, "Higher goes first while the server is busy");
ABSL_FLAG(std::optional<int32_t>, no_repeat_ngram_size, std::nullopt,
          "No run of this many tokens comes twice in the output; 0: any may");
ABSL_FLAG(std::optional<int32_t>, num_beams, std::nullopt,
          "Search for the likeliest text with this many beams, in place of sampling");
ABSL_FLAG(std::optional<float>, length_penalty, std::nullopt,
          "With --num_beams, above 0 favours longer texts; default 1");
ABSL_FLAG(std::optional<bool>, early_stopping, std::nullopt,
          "With --num_beams, stop when as many texts are complete; default false");
ABSL_FLAG(std::string, source_language, "",
          "The language of the text, as the model names it: en, en_XX, eng_Latn");
ABSL_FLAG(std::string, target_language, "",
          "The language to translate into, as the model names it: de, de_DE, deu_Latn");
ABSL_FLAG(std::string, decoder_prefix, "", "What the output of an encoder-decoder begins with");

namespace attendant::client {
namespace {

void SetSampling(v1::SamplingParams& sampling) {
  if (const auto value = absl::GetFlag(FLAGS_temperature)) sampling.set_temperature(*value);
  if (const auto value = absl::GetFlag(FLAGS_top_k)) sampling.set_top_k(*value);
  if (const auto value = absl::GetFlag(FLAGS_top_p)) sampling.set_top_p(*value);
  if (const auto value = absl::GetFlag(FLAGS_min_p)) sampling.set_min_p(*value);
  if (const auto value = absl::GetFlag(FLAGS_repetition_penalty))
    sampling.set_repetition_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_presence_penalty))
    sampling.set_presence_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_frequency_penalty))
    sampling.set_frequency_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_no_repeat_ngram_size))
    sampling.set_no_repeat_ngram_size(*value);
  if (const auto value = absl::GetFlag(FLAGS_seed)) sampling.set_seed(*value);
}

absl::Status SetStopping(v1::StoppingCriteria& stopping) {
  if (const auto value = absl::GetFlag(FLAGS_max_new_tokens)) stopping.set_max_new_tokens(*value);
  if (const auto value = absl::GetFlag(FLAGS_min_new_tokens)) stopping.set_min_new_tokens(*value);
  for (const std::string& stop : absl::GetFlag(FLAGS_stop)) {
    std::string error;
    if (!absl::CUnescape(stop, stopping.add_stop(), &error)) {
      return absl::InvalidArgumentError(absl::StrCat("--stop: ", error, " in '", stop, "'"));
    }
  }
  for (const std::string& text : absl::GetFlag(FLAGS_stop_token_ids)) {
    int32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--stop_token_ids: '", text, "' is not a token id"));
    }
    stopping.add_stop_token_ids(id);
  }
  stopping.set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
  return absl::OkStatus();
}

void SetBeamSearch(v1::GenerateRequest& request) {
  const auto num_beams = absl::GetFlag(FLAGS_num_beams);
  const auto length_penalty = absl::GetFlag(FLAGS_length_penalty);
  const auto early_stopping = absl::GetFlag(FLAGS_early_stopping);
  if (!num_beams && !length_penalty && !early_stopping) return;
  v1::BeamSearch& search = *request.mutable_beam_search();
  search.set_num_beams(num_beams.value_or(1));
  if (length_penalty) search.set_length_penalty(*length_penalty);
  if (early_stopping) search.set_early_stopping(*early_stopping);
}

}  // namespace

std::vector<absl::string_view> GenerateFlags() {
  return {"temperature",
          "top_k",
          "top_p",
          "min_p",
          "repetition_penalty",
          "presence_penalty",
          "frequency_penalty",
          "no_repeat_ngram_size",
          "seed",
          "num_beams",
          "length_penalty",
          "early_stopping",
          "source_language",
          "target_language",
          "decoder_prefix",
          "max_new_tokens",
          "min_new_tokens",
          "stop",
          "stop_token_ids",
          "ignore_eos",
          "cache_prefix",
          "priority",
          "truncate",
          "max_tokens"};
}

absl::StatusOr<v1::GenerateRequest> GenerateRequestFromFlags() {
  v1::GenerateRequest request;
  request.set_model(absl::GetFlag(FLAGS_model));
  SetSampling(*request.mutable_sampling());
  SetBeamSearch(request);
  absl::Status status = SetStopping(*request.mutable_stopping());
  if (!status.ok()) return status;
  if (const std::string prefix = absl::GetFlag(FLAGS_decoder_prefix); !prefix.empty())
    request.mutable_decoder_prefix()->set_text(prefix);
  request.set_source_language(absl::GetFlag(FLAGS_source_language));
  request.set_target_language(absl::GetFlag(FLAGS_target_language));
  request.set_cache_prefix(absl::GetFlag(FLAGS_cache_prefix));
  request.set_priority(absl::GetFlag(FLAGS_priority));
  const auto truncation = TruncationFromFlags();
  if (!truncation.ok()) return truncation.status();
  if (*truncation) *request.mutable_truncation() = **truncation;
  return request;
}

}  // namespace attendant::client
