#include "engine/generation_config.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <variant>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "simdjson.h"

namespace attendant::engine {
namespace {

using simdjson::dom::element;

constexpr int32_t kReferenceTopK = 50;
constexpr double kMaxLengthPenalty = 10;

// A file of settings, each of which may be absent or null.
class Settings {
 public:
  static absl::StatusOr<Settings> Parse(absl::string_view file, absl::string_view json) {
    Settings settings(file);
    element root;
    if (settings.parser_->parse(json.data(), json.size()).get(root) || root.get(settings.object_)) {
      return absl::InvalidArgumentError(absl::StrCat(file, " is not a JSON object"));
    }
    return settings;
  }

  absl::Status Read(absl::string_view key, bool& value) const {
    element found;
    if (!Find(key, found)) return absl::OkStatus();
    if (found.get(value)) return Unexpected(key, found, "true or false");
    return absl::OkStatus();
  }

  // A number from `minimum` to `maximum`.
  template <typename Number>
  absl::Status ReadNumber(absl::string_view key, double minimum, double maximum,
                          Number& value) const {
    element found;
    if (!Find(key, found)) return absl::OkStatus();
    double number;
    if (found.get(number) || number < minimum || number > maximum) {
      return Unexpected(key, found, absl::StrCat("a number from ", minimum, " to ", maximum));
    }
    value = static_cast<Number>(number);
    return absl::OkStatus();
  }

  // A token id, or an array of them.
  absl::Status ReadIds(absl::string_view key, std::vector<int32_t>& ids) const {
    element found;
    if (!Find(key, found)) return absl::OkStatus();
    return AppendIds(key, found, ids);
  }

  // true, false or "never".
  absl::Status ReadEarlyStopping(EarlyStopping& value) const {
    constexpr absl::string_view kKey = "early_stopping";
    element found;
    if (!Find(kKey, found)) return absl::OkStatus();
    if (std::string_view text; !found.get(text) && text == "never") {
      value = EarlyStopping::kNever;
      return absl::OkStatus();
    }
    bool stops;
    if (found.get(stops)) return Unexpected(kKey, found, "true, false or \"never\"");
    value = stops ? EarlyStopping::kTrue : EarlyStopping::kFalse;
    return absl::OkStatus();
  }

  // An array of arrays of token ids.
  absl::Status ReadIdSequences(absl::string_view key,
                               std::vector<std::vector<int32_t>>& sequences) const {
    element found;
    if (!Find(key, found)) return absl::OkStatus();
    simdjson::dom::array array;
    if (found.get(array)) return Unexpected(key, found, "an array of arrays of token ids");
    for (const element item : array) {
      if (!item.is_array()) return Unexpected(key, item, "an array of token ids");
      RETURN_IF_ERROR(AppendIds(key, item, sequences.emplace_back()));
      if (sequences.back().empty()) return Unexpected(key, item, "at least one token id");
    }
    return absl::OkStatus();
  }

 private:
  explicit Settings(absl::string_view file) : file_(file) {}

  absl::Status AppendIds(absl::string_view key, const element& found,
                         std::vector<int32_t>& ids) const {
    std::vector<element> elements = {found};
    if (simdjson::dom::array array; !found.get(array)) {
      elements.assign(array.begin(), array.end());
    }
    for (const element& item : elements) {
      int64_t id;
      if (item.get(id) || id < 0 || id > std::numeric_limits<int32_t>::max()) {
        return Unexpected(key, item, "a token id or an array of them");
      }
      ids.push_back(static_cast<int32_t>(id));
    }
    return absl::OkStatus();
  }

  bool Find(absl::string_view key, element& found) const {
    return !object_.at_key(std::string_view(key.data(), key.size())).get(found) && !found.is_null();
  }

  absl::Status Unexpected(absl::string_view key, const element& found,
                          absl::string_view expected) const {
    return absl::InvalidArgumentError(absl::StrCat(
        file_, ": ", key, " is ", simdjson::minify(found).substr(0, 60), "; expected ", expected));
  }

  std::string file_;
  std::unique_ptr<simdjson::dom::parser> parser_ =
      std::make_unique<simdjson::dom::parser>();  // owns what object_ points into
  simdjson::dom::object object_;
};

absl::Status CheckRange(absl::string_view field, std::optional<double> value, double minimum,
                        double maximum) {
  if (!value.has_value()) return absl::OkStatus();
  if (*value >= minimum && *value <= maximum) return absl::OkStatus();  // false for a NaN
  return FieldError(field, absl::StrCat("is ", *value, "; from ", minimum, " to ", maximum));
}

absl::Status CheckTokenId(absl::string_view field, int32_t id, const GenerationLimits& limits) {
  if (id >= 0 && id < limits.vocab_size) return absl::OkStatus();
  return FieldError(field, absl::StrCat("names token ", id, "; the vocabulary has ",
                                        limits.vocab_size, " tokens"));
}

}  // namespace

absl::StatusOr<GenerationConfig> ReadGenerationConfig(const std::string* generation_config_json,
                                                      absl::string_view config_json) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr double kMostTokens = std::numeric_limits<int32_t>::max();
  ASSIGN_OR_RETURN(const Settings model_settings, Settings::Parse("config.json", config_json));
  // Checkpoints from before there was a file of its own keep the settings in config.json.
  ASSIGN_OR_RETURN(const Settings settings,
                   generation_config_json != nullptr
                       ? Settings::Parse("generation_config.json", *generation_config_json)
                       : Settings::Parse("config.json", config_json));
  GenerationConfig config;
  SamplingParams& sampling = config.sampling;
  bool do_sample = false;
  RETURN_IF_ERROR(settings.Read("do_sample", do_sample));
  if (do_sample) {
    sampling.temperature = 1;
    sampling.top_k = kReferenceTopK;
    RETURN_IF_ERROR(settings.ReadNumber("temperature", 0, kLargest, sampling.temperature));
  }
  RETURN_IF_ERROR(settings.ReadNumber("top_k", 0, kMostTokens, sampling.top_k));
  RETURN_IF_ERROR(
      settings.ReadNumber("top_p", std::numeric_limits<float>::min(), 1, sampling.top_p));
  RETURN_IF_ERROR(settings.ReadNumber("min_p", 0, 1, sampling.min_p));
  RETURN_IF_ERROR(settings.ReadNumber("repetition_penalty", std::numeric_limits<float>::min(),
                                      kLargest, sampling.repetition_penalty));
  RETURN_IF_ERROR(
      settings.ReadNumber("no_repeat_ngram_size", 0, kMostTokens, sampling.no_repeat_ngram_size));
  BeamSearchParams& search = config.beam_search;
  RETURN_IF_ERROR(settings.ReadNumber("num_beams", 1, kMostTokens, search.num_beams));
  RETURN_IF_ERROR(settings.ReadNumber("length_penalty", -kMaxLengthPenalty, kMaxLengthPenalty,
                                      search.length_penalty));
  RETURN_IF_ERROR(settings.ReadEarlyStopping(search.early_stopping));
  RETURN_IF_ERROR(
      settings.ReadNumber("num_return_sequences", 1, kMostTokens, config.num_sequences));
  RETURN_IF_ERROR(settings.ReadNumber("min_new_tokens", 0, kMostTokens, config.min_new_tokens));
  RETURN_IF_ERROR(settings.ReadNumber("min_length", 0, kMostTokens, config.min_length));
  int32_t max_new_tokens = 0, max_length = 0;
  RETURN_IF_ERROR(settings.ReadNumber("max_new_tokens", 1, kMostTokens, max_new_tokens));
  RETURN_IF_ERROR(settings.ReadNumber("max_length", 1, kMostTokens, max_length));
  if (max_new_tokens > 0) config.max_new_tokens = max_new_tokens;
  if (max_length > 0) config.max_length = max_length;
  RETURN_IF_ERROR(settings.ReadIds("eos_token_id", config.eos_token_ids));
  TokenConstraints& constraints = config.constraints;
  RETURN_IF_ERROR(settings.ReadIdSequences("bad_words_ids", constraints.bad_words));
  RETURN_IF_ERROR(settings.ReadIds("suppress_tokens", constraints.suppress_tokens));
  RETURN_IF_ERROR(settings.ReadIds("begin_suppress_tokens", constraints.begin_suppress_tokens));
  int32_t forced_bos = -1;
  RETURN_IF_ERROR(settings.ReadNumber("forced_bos_token_id", 0, kMostTokens, forced_bos));
  if (forced_bos >= 0) constraints.forced_bos_token_id = forced_bos;
  RETURN_IF_ERROR(settings.ReadIds("forced_eos_token_id", constraints.forced_eos_token_ids));
  if (config.eos_token_ids.empty()) {
    RETURN_IF_ERROR(model_settings.ReadIds("eos_token_id", config.eos_token_ids));
  }
  for (const absl::string_view key : {"decoder_start_token_id", "bos_token_id", "pad_token_id"}) {
    int32_t id = -1;
    RETURN_IF_ERROR(model_settings.ReadNumber(key, 0, kMostTokens, id));
    RETURN_IF_ERROR(settings.ReadNumber(key, 0, kMostTokens, id));
    if (id < 0) continue;
    config.decoder_start_token_id = id;
    break;
  }
  // The end is no word: to ban it is what min_new_tokens does.
  std::erase_if(config.constraints.bad_words, [&](const std::vector<int32_t>& word) {
    return word.size() == 1 && absl::c_linear_search(config.eos_token_ids, word.front());
  });
  return config;
}

absl::Status CheckDecoderStart(const GenerationConfig& config, int32_t vocab_size) {
  if (!config.decoder_start_token_id.has_value()) {
    return absl::InvalidArgumentError(
        "neither generation_config.json nor config.json says what the decoder starts with: "
        "decoder_start_token_id, bos_token_id or pad_token_id");
  }
  if (*config.decoder_start_token_id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("decoder_start_token_id is ",
                                                 *config.decoder_start_token_id,
                                                 "; the vocabulary has ", vocab_size, " tokens"));
}

absl::Status CheckTokenConstraints(const GenerationConfig& config, int32_t vocab_size) {
  const TokenConstraints& constraints = config.constraints;
  const auto check = [vocab_size](absl::string_view key, absl::Span<const int32_t> ids) {
    for (const int32_t id : ids) {
      if (id < vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat("generation_config.json or config.json: ", key,
                                                     " names token ", id, "; the vocabulary has ",
                                                     vocab_size, " tokens"));
    }
    return absl::OkStatus();
  };
  for (const std::vector<int32_t>& word : constraints.bad_words) {
    RETURN_IF_ERROR(check("bad_words_ids", word));
  }
  RETURN_IF_ERROR(check("suppress_tokens", constraints.suppress_tokens));
  RETURN_IF_ERROR(check("begin_suppress_tokens", constraints.begin_suppress_tokens));
  if (constraints.forced_bos_token_id.has_value()) {
    RETURN_IF_ERROR(check("forced_bos_token_id", {*constraints.forced_bos_token_id}));
  }
  return check("forced_eos_token_id", constraints.forced_eos_token_ids);
}

absl::Status CheckGenerateRequest(const GenerateRequest& request, const GenerationLimits& limits) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  constexpr double kLeastPositive = std::numeric_limits<float>::min();
  RETURN_IF_ERROR(CheckRange("sampling.temperature", request.temperature, 0, kLargest));
  RETURN_IF_ERROR(
      CheckRange("sampling.top_k", request.top_k, 0, std::numeric_limits<int32_t>::max()));
  RETURN_IF_ERROR(CheckRange("sampling.top_p", request.top_p, kLeastPositive, 1));
  RETURN_IF_ERROR(CheckRange("sampling.min_p", request.min_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty", request.repetition_penalty,
                             kLeastPositive, kLargest));
  RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", request.presence_penalty, -2, 2));
  RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", request.frequency_penalty, -2, 2));
  RETURN_IF_ERROR(CheckRange("sampling.no_repeat_ngram_size", request.no_repeat_ngram_size, 0,
                             std::numeric_limits<int32_t>::max()));
  for (const auto& [id, bias] : request.logit_bias) {
    RETURN_IF_ERROR(CheckTokenId("sampling.logit_bias", id, limits));
    RETURN_IF_ERROR(CheckRange("sampling.logit_bias", bias, -kLargest, kLargest));
  }
  RETURN_IF_ERROR(CheckRange("num_sequences", request.num_sequences, 1, 1024));
  if (request.num_beams.has_value() &&
      (*request.num_beams < 1 || *request.num_beams > limits.max_beams)) {
    return FieldError("beam_search.num_beams",
                      absl::StrCat("is ", *request.num_beams, "; this server allows 1 to ",
                                   limits.max_beams, " (--max_beams)"));
  }
  RETURN_IF_ERROR(CheckRange("beam_search.length_penalty", request.length_penalty,
                             -kMaxLengthPenalty, kMaxLengthPenalty));
  RETURN_IF_ERROR(CheckRange("output.top_logprobs", request.top_logprobs, 0, limits.vocab_size));
  RETURN_IF_ERROR(CheckRange("stopping.min_new_tokens", request.min_new_tokens, 0,
                             std::numeric_limits<int32_t>::max()));
  if (request.max_new_tokens.has_value() &&
      (*request.max_new_tokens < 1 || *request.max_new_tokens > limits.max_new_tokens)) {
    return FieldError("stopping.max_new_tokens",
                      absl::StrCat("is ", *request.max_new_tokens, "; this server allows 1 to ",
                                   limits.max_new_tokens, " (--max_new_tokens)"));
  }
  for (const int32_t id : request.stop_token_ids) {
    RETURN_IF_ERROR(CheckTokenId("stopping.stop_token_ids", id, limits));
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return FieldError("stopping.stop", "has an empty string");
  }
  if (limits.source_tokens == 0) {
    const absl::string_view field = !std::holds_alternative<std::monostate>(request.decoder_prefix)
                                        ? "decoder_prefix"
                                    : !request.source_language.empty() ? "source_language"
                                    : !request.target_language.empty() ? "target_language"
                                                                       : "";
    if (!field.empty()) {
      return FieldError(field,
                        "is set; this model is a decoder alone, which has no source, and "
                        "takes what its output begins with as the prompt");
    }
  }
  return absl::OkStatus();
}

absl::Status ResolveBeamSearch(const GenerateRequest& request, const GenerationConfig& config,
                               const GenerationLimits& limits, BeamSearchParams& beam_search,
                               int32_t& num_sequences) {
  const bool samples = request.temperature.value_or(0) > 0;
  beam_search = config.beam_search;
  beam_search.num_beams =
      request.num_beams.value_or(samples ? 1 : std::min(beam_search.num_beams, limits.max_beams));
  beam_search.length_penalty = request.length_penalty.value_or(beam_search.length_penalty);
  beam_search.early_stopping = request.early_stopping.value_or(beam_search.early_stopping);
  const int32_t num_beams = beam_search.num_beams;
  if (num_beams == 1) {
    // A checkpoint's number is for its own way to choose tokens, which may not be the request's.
    const bool is_random = request.temperature.value_or(config.sampling.temperature) > 0;
    num_sequences = request.num_sequences.value_or(is_random ? config.num_sequences : 1);
    if (num_sequences > 1 && request.temperature == 0.0f) {
      return FieldError(
          "num_sequences",
          absl::StrCat("is ", num_sequences, "; more than 1 needs a temperature above 0 or beams"));
    }
    return absl::OkStatus();
  }

  num_sequences =
      request.num_sequences.value_or(std::min<int32_t>(config.num_sequences, num_beams));
  if (samples) {
    return FieldError("sampling.temperature",
                      absl::StrCat("is ", *request.temperature, " with beam_search.num_beams ",
                                   num_beams, "; a beam search does not sample"));
  }
  if (num_sequences > num_beams) {
    return FieldError("num_sequences", absl::StrCat("is ", num_sequences,
                                                    "; a beam search returns at most num_beams, "
                                                    "which is ",
                                                    num_beams));
  }
  if (!request.stop.empty()) {
    return FieldError("stopping.stop",
                      "is set; a beam search ends at tokens alone (stopping.stop_token_ids)");
  }
  if (request.top_logprobs > 0) {
    return FieldError("output.top_logprobs",
                      absl::StrCat("is ", request.top_logprobs,
                                   "; a beam search gives each token's own (0) alone"));
  }
  return absl::OkStatus();
}

int64_t CacheTokensOfABeam(const GenerationLimits& limits, int64_t common_tokens,
                           int32_t num_beams) {
  const int64_t num_blocks = limits.cache_tokens / limits.block_size;
  const int64_t num_common = num_beams > 1 ? common_tokens / limits.block_size : 0;
  return (num_common + std::max<int64_t>(num_blocks - num_common, 0) / num_beams) *
         limits.block_size;
}

void ResolveGeneration(const GenerateRequest& request, const GenerationConfig& config,
                       const GenerationLimits& limits, int64_t prompt_tokens, uint64_t random_seed,
                       SamplingParams& sampling, StoppingCriteria& stopping) {
  sampling = config.sampling;
  sampling.temperature = request.temperature.value_or(sampling.temperature);
  sampling.top_k = request.top_k.value_or(sampling.top_k);
  sampling.top_p = request.top_p.value_or(sampling.top_p);
  sampling.min_p = request.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = request.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = request.presence_penalty.value_or(0);
  sampling.frequency_penalty = request.frequency_penalty.value_or(0);
  sampling.no_repeat_ngram_size =
      request.no_repeat_ngram_size.value_or(sampling.no_repeat_ngram_size);
  sampling.logit_bias = request.logit_bias;
  sampling.seed = request.seed.value_or(random_seed);

  int64_t max_new_tokens;
  if (request.max_new_tokens.has_value()) {
    max_new_tokens = *request.max_new_tokens;
  } else {
    max_new_tokens = config.max_new_tokens.value_or(limits.max_new_tokens);
    if (!config.max_new_tokens.has_value() && config.max_length.has_value()) {
      max_new_tokens = *config.max_length - prompt_tokens;
    }
    max_new_tokens = std::min(
        {max_new_tokens, int64_t{limits.max_new_tokens}, limits.cache_tokens - prompt_tokens});
  }
  max_new_tokens = std::min(max_new_tokens, limits.context_tokens - prompt_tokens);
  // A prompt longer than max_length, or than the cache, still asks for one token; the latter is
  // then refused.
  stopping.max_new_tokens = static_cast<int32_t>(std::max<int64_t>(max_new_tokens, 1));
  const int64_t min_new_tokens = config.min_new_tokens > 0
                                     ? config.min_new_tokens
                                     : std::max<int64_t>(config.min_length - prompt_tokens, 0);
  stopping.min_new_tokens = static_cast<int32_t>(
      std::min<int64_t>(request.min_new_tokens.value_or(min_new_tokens), stopping.max_new_tokens));
  stopping.stop = request.stop;
  stopping.stop_token_ids = request.stop_token_ids;
  stopping.ignore_eos = request.ignore_eos;
}

}  // namespace attendant::engine
