#include "engine/generate_job.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

absl::StatusOr<Encoding> EncodePrompt(GenerateRequest& request, const LoadedModel& model) {
  if (auto* ids = std::get_if<TokenIds>(&request.prompt)) {
    if (ids->empty()) return FieldError("tokens", "has no tokens");
    RETURN_IF_ERROR(CheckTokenIds(model, *ids));
    if (!request.source_language.empty()) {
      return FieldError("source_language", "is set; tokens name their language themselves");
    }
    Encoding encoding;
    encoding.type_ids.assign(ids->size(), 0);
    encoding.offsets.resize(ids->size());
    encoding.sequence_ids.assign(ids->size(), 0);
    encoding.special_tokens_mask.assign(ids->size(), false);
    encoding.ids = std::move(*ids);
    return encoding;
  }
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  ASSIGN_OR_RETURN(Encoding encoding,
                   model.tokenizer->EncodeSource(std::get<std::string>(request.prompt),
                                                 request.source_language, request.target_language));
  if (encoding.ids.empty()) return FieldError("text", "has no tokens; a prompt needs at least one");
  RETURN_IF_ERROR(CheckTokenIds(model, encoding.ids));
  return encoding;
}

// A prompt leaves room for what is to be generated if it is cut, and else for one token at least.
absl::Status PreparePrompt(GenerateRequest& request, const LoadedModel& model, GenerateJob& job) {
  const GenerationLimits& limits = model.generation_limits;
  ASSIGN_OR_RETURN(Encoding encoding, EncodePrompt(request, model));
  job.original_tokens = encoding.num_tokens();
  int64_t room = 1;
  if (request.truncation.side != TruncationSide::kNone) {
    room = std::min<int64_t>(request.max_new_tokens.value_or(1), limits.context_tokens - 1);
  }
  RETURN_IF_ERROR(Truncate(request.truncation, limits.context_tokens - room,
                           "beside the output the model takes", encoding));
  if (encoding.ids.empty()) return FieldError("truncation", "leaves nothing of the prompt");
  job.input_tokens = encoding.num_tokens();
  job.prompt = std::move(encoding.ids);
  return absl::OkStatus();
}

// The languages that the model is told of; null if it is told of none.
const Languages* LanguagesOf(const LoadedModel& model) {
  return model.tokenizer == nullptr ? nullptr : model.tokenizer->languages();
}

absl::Status CheckLanguage(absl::string_view field, absl::string_view code,
                           const LoadedModel& model) {
  if (code.empty()) return absl::OkStatus();
  const Languages* languages = LanguagesOf(model);
  if (languages == nullptr) {
    return FieldError(field, absl::StrCat("is set; model \"", model.description.name,
                                          "\" is not told of languages"));
  }
  absl::Status status = languages->IdOf(field, code).status();
  if (!status.ok()) status.SetPayload(kFieldPathUrl, absl::Cord(field));
  return status;
}

// The token that tells the decoder which language to write; nothing if the source does, or
// `prefix`, or nobody.
absl::StatusOr<std::optional<int32_t>> TargetLanguage(const GenerateRequest& request,
                                                      const TokenIds& prefix,
                                                      const LoadedModel& model) {
  const Languages* languages = LanguagesOf(model);
  if (languages == nullptr) return std::nullopt;
  const bool is_text = std::holds_alternative<std::string>(request.prompt);
  if (languages->target == Languages::Target::kInSource) {
    if (is_text || request.target_language.empty()) return std::nullopt;
    return FieldError("target_language", "is set; tokens name it themselves, as their first one");
  }
  if (!request.target_language.empty()) {
    return languages->IdOf("target_language", request.target_language);
  }
  const auto is_language = [languages](std::optional<int32_t> id) {
    return absl::c_any_of(languages->ids,
                          [id](const auto& language) { return language.second == id; });
  };
  if (!prefix.empty() && is_language(prefix.front())) return std::nullopt;
  if (!languages->default_target.empty()) {
    return languages->IdOf("target_language", languages->default_target);
  }
  if (is_language(model.generation.decoder_start_token_id)) return std::nullopt;
  return FieldError("target_language",
                    absl::StrCat("is not set; the model writes ", languages->ids.size(),
                                 " languages, \"", languages->ids.begin()->first,
                                 "\" the first of them, and the checkpoint has no default"));
}

absl::StatusOr<TokenIds> EncodeDecoderPrefix(GenerateRequest& request, const LoadedModel& model) {
  const int32_t vocab_size = model.generation_limits.vocab_size;
  TokenIds ids;
  absl::string_view field = "decoder_prefix.tokens";
  if (auto* tokens = std::get_if<TokenIds>(&request.decoder_prefix)) {
    ids = std::move(*tokens);
  } else if (auto* text = std::get_if<std::string>(&request.decoder_prefix)) {
    field = "decoder_prefix.text";
    const Tokenizer* tokenizer = OutputTokenizer(model);
    if (tokenizer == nullptr) {
      return FieldError(field,
                        "needs a tokenizer, and this model has none of its output; use "
                        "decoder_prefix.tokens");
    }
    ASSIGN_OR_RETURN(Encoding encoding, tokenizer->Encode(*text, /*add_special_tokens=*/false));
    ids = std::move(encoding.ids);
  } else {
    return ids;
  }
  if (ids.empty()) return FieldError(field, "has no tokens");
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return FieldError(field, absl::StrCat("token ", i, " has id ", ids[i],
                                          "; the vocabulary of the output has ", vocab_size));
  }
  return ids;
}

// What the encoder reads, and what the decoder begins with: the start token and, if the request
// says how the output begins, the language's (else forced_bos_token_id) and that beginning. Alone,
// such a token is the first that is generated.
absl::Status PrepareSource(GenerateRequest& request, const LoadedModel& model, GenerateJob& job) {
  const GenerationLimits& limits = model.generation_limits;
  if (std::holds_alternative<std::string>(request.prompt) && model.tokenizer != nullptr &&
      OutputTokenizer(model) == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("model \"", model.description.name,
                     "\" has no tokenizer of what it writes (target_tokenizer.json), whose "
                     "vocabulary is not that of its sources; it takes token ids alone"));
  }
  RETURN_IF_ERROR(CheckLanguage("source_language", request.source_language, model));
  RETURN_IF_ERROR(CheckLanguage("target_language", request.target_language, model));
  ASSIGN_OR_RETURN(const TokenIds prefix, EncodeDecoderPrefix(request, model));
  ASSIGN_OR_RETURN(const std::optional<int32_t> language, TargetLanguage(request, prefix, model));
  ASSIGN_OR_RETURN(Encoding encoding, EncodePrompt(request, model));
  job.original_tokens = encoding.num_tokens() + static_cast<int32_t>(prefix.size());
  RETURN_IF_ERROR(
      Truncate(request.truncation, limits.source_tokens, "the encoder takes", encoding));
  if (encoding.ids.empty()) return FieldError("truncation", "leaves nothing of the source");
  job.input_tokens = encoding.num_tokens() + static_cast<int64_t>(prefix.size());
  job.source.tokens = std::move(encoding.ids);

  job.prompt = {*model.generation.decoder_start_token_id};
  if (language.has_value()) {
    if (LanguagesOf(model)->target == Languages::Target::kDecoderStart) {
      job.prompt = {*language};
    } else {
      job.forced_first_token = language;
    }
  }
  if (!prefix.empty()) {
    // What would have been forced to be the first token of the output precedes its beginning.
    std::optional<int32_t> first = job.forced_first_token;
    if (LanguagesOf(model) == nullptr) first = model.generation.constraints.forced_bos_token_id;
    if (first.has_value() && prefix.front() != *first) job.prompt.push_back(*first);
    job.prompt.insert(job.prompt.end(), prefix.begin(), prefix.end());
  }
  if (static_cast<int64_t>(job.prompt.size()) >= limits.context_tokens) {
    return FieldError("decoder_prefix", absl::StrCat("makes ", job.prompt.size(),
                                                     " tokens with the start; beside "
                                                     "the output the decoder takes ",
                                                     limits.context_tokens - 1));
  }
  return absl::OkStatus();
}

}  // namespace

GenerateJob::GenerateJob(InFlight in_flight) : in_flight(std::move(in_flight)) {}
GenerateJob::~GenerateJob() = default;

GenerateSequence::GenerateSequence(GenerateJob& job, int32_t index)
    : job(job),
      index(index),
      sampler(*job.processors, job.sampling.seed + index),
      tokenizer(OutputTokenizer(job.in_flight.model())),
      stop_matcher(job.stopping.stop) {
  tokens = job.prompt;
  if (tokenizer != nullptr) {
    decoder.emplace(*tokenizer, job.prompt, /*skip_special_tokens=*/true);
  }
}

std::string GenerateSequence::PushText(int32_t token, std::optional<std::string>& stop) {
  // A model's vocabulary may be padded beyond its tokenizer's.
  if (tokenizer == nullptr || token >= tokenizer->vocab_size()) return "";
  std::string text = decoder->Push(token);
  if (num_output() < job.stopping.min_new_tokens) return text;
  StopMatcher::Result result = stop_matcher.Push(text);
  stop = std::move(result.stop);
  return std::move(result.text);
}

std::string GenerateSequence::FinishText(std::optional<std::string>& stop) {
  if (!decoder.has_value()) return "";
  StopMatcher::Result result = stop_matcher.Push(decoder->Finish());
  stop = std::move(result.stop);
  if (!stop.has_value()) result.text += stop_matcher.Flush();
  return std::move(result.text);
}

absl::StatusOr<std::unique_ptr<GenerateJob>> PrepareGenerate(GenerateRequest request,
                                                             std::shared_ptr<TokenSink> sink,
                                                             InFlight in_flight,
                                                             absl::Time submitted,
                                                             uint64_t random_seed) {
  const LoadedModel& model = in_flight.model();
  RETURN_IF_ERROR(CheckCanGenerate(model.description));
  const GenerationLimits& limits = model.generation_limits;
  RETURN_IF_ERROR(CheckGenerateRequest(request, limits));
  const Tokenizer* tokenizer = OutputTokenizer(model);
  if (!request.stop.empty() && tokenizer == nullptr) {
    return FieldError("stopping.stop",
                      "needs a tokenizer, and this model has none; use stop_token_ids");
  }
  if (request.truncation.max_tokens.has_value() && *request.truncation.max_tokens < 1) {
    return FieldError("truncation.max_tokens",
                      absl::StrCat("is ", *request.truncation.max_tokens, "; at least 1"));
  }
  if (request.cross_attention && limits.source_tokens == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("model \"", model.description.name, "\" is a ", model.description.kind,
                     ", which has no source; output.cross_attention is for encoder-decoders"));
  }

  auto job = std::make_unique<GenerateJob>(std::move(in_flight));
  job->submitted = submitted;
  if (limits.source_tokens > 0) {
    RETURN_IF_ERROR(PrepareSource(request, model, *job));
  } else {
    RETURN_IF_ERROR(PreparePrompt(request, model, *job));
  }
  RETURN_IF_ERROR(
      ResolveBeamSearch(request, model.generation, limits, job->beam_search, job->num_sequences));
  const auto num_prompt = static_cast<int64_t>(job->prompt.size());
  const auto num_source = static_cast<int64_t>(job->source.tokens.size());
  GenerationLimits left = limits;  // by the source, for each beam
  left.cache_tokens -= (num_source + limits.block_size - 1) / limits.block_size * limits.block_size;
  left.cache_tokens = CacheTokensOfABeam(left, num_prompt, job->beam_search.num_beams);
  ResolveGeneration(request, model.generation, left, num_prompt, random_seed, job->sampling,
                    job->stopping);
  if (job->beam_search.num_beams > 1) job->sampling.temperature = 0;
  job->end_tokens = job->stopping.stop_token_ids;
  if (!job->stopping.ignore_eos) {
    for (const int32_t id : model.generation.eos_token_ids) {
      if (id < limits.vocab_size) job->end_tokens.push_back(id);
    }
  }
  TokenConstraints constraints = model.generation.constraints;
  if (job->forced_first_token.has_value())
    constraints.forced_bos_token_id = job->forced_first_token;
  // Who goes on past the end is not made to end.
  if (request.ignore_eos) constraints.forced_eos_token_ids.clear();
  job->processors.emplace(
      LogitsProcessorOptions{.sampling = job->sampling,
                             .constraints = std::move(constraints),
                             .end_tokens = job->end_tokens,
                             .min_new_tokens = job->stopping.min_new_tokens,
                             .max_new_tokens = job->stopping.max_new_tokens,
                             .prompt_tokens = static_cast<int64_t>(job->prompt.size())});
  if (request.echo && tokenizer != nullptr) {
    ASSIGN_OR_RETURN(job->echo, tokenizer->Decode(job->prompt, /*skip_special_tokens=*/true));
  }
  job->control = std::move(request.control);
  job->top_logprobs = request.top_logprobs;
  job->logprobs = request.logprobs || request.top_logprobs > 0;
  job->prompt_logprobs = request.prompt_logprobs;
  job->cross_attention = request.cross_attention;
  job->priority = request.priority;
  job->cache_prefix = request.cache_prefix;
  job->sink = std::move(sink);
  job->tokenized = absl::Now();
  return job;
}

std::string TokenText(const Tokenizer* tokenizer, int32_t id) {
  if (tokenizer == nullptr) return "";
  const auto decode = [&](absl::Span<const int32_t> ids) {
    return tokenizer->Decode(ids, /*skip_special_tokens=*/false).value_or("");
  };
  // A token that begins a word has its space only behind another token.
  const std::string alone = decode({id});
  const std::string twice = decode({id, id});
  return absl::StartsWith(twice, alone) ? twice.substr(alone.size()) : alone;
}

}  // namespace attendant::engine
