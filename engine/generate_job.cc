#include "engine/generate_job.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

SamplingParams WithSeed(SamplingParams params, uint64_t seed) {
  params.seed = seed;
  return params;
}

absl::StatusOr<Encoding> EncodePrompt(std::variant<std::string, TokenIds>& prompt,
                                      const LoadedModel& model) {
  if (auto* ids = std::get_if<TokenIds>(&prompt)) {
    if (ids->empty()) return FieldError("tokens", "has no tokens");
    RETURN_IF_ERROR(CheckTokenIds(model, *ids));
    Encoding encoding;
    encoding.type_ids.assign(ids->size(), 0);
    encoding.offsets.resize(ids->size());
    encoding.sequence_ids.assign(ids->size(), 0);
    encoding.special_tokens_mask.assign(ids->size(), false);
    encoding.ids = std::move(*ids);
    return encoding;
  }
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  ASSIGN_OR_RETURN(Encoding encoding, model.tokenizer->Encode(std::get<std::string>(prompt),
                                                              /*add_special_tokens=*/true));
  if (encoding.ids.empty()) return FieldError("text", "has no tokens; a prompt needs at least one");
  RETURN_IF_ERROR(CheckTokenIds(model, encoding.ids));
  return encoding;
}

}  // namespace

GenerateJob::GenerateJob(InFlight in_flight) : in_flight(std::move(in_flight)) {}
GenerateJob::~GenerateJob() = default;

GenerateSequence::GenerateSequence(GenerateJob& job, int32_t index)
    : job(job),
      index(index),
      sampler(WithSeed(job.sampling, job.sampling.seed + index), job.prompt, job.end_tokens,
              job.stopping.min_new_tokens),
      stop_matcher(job.stopping.stop) {
  tokens = job.prompt;
  if (const Tokenizer* tokenizer = job.in_flight.model().tokenizer.get()) {
    decoder.emplace(*tokenizer, job.prompt, /*skip_special_tokens=*/true);
  }
}

std::string GenerateSequence::PushText(int32_t token, std::optional<std::string>& stop) {
  // A model's vocabulary may be padded beyond its tokenizer's.
  if (!decoder.has_value() || token >= job.in_flight.model().tokenizer->vocab_size()) return "";
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
  if (!request.stop.empty() && model.tokenizer == nullptr) {
    return FieldError("stopping.stop",
                      "needs a tokenizer, and this model has none; use stop_token_ids");
  }
  if (request.truncation.max_tokens.has_value() && *request.truncation.max_tokens < 1) {
    return FieldError("truncation.max_tokens",
                      absl::StrCat("is ", *request.truncation.max_tokens, "; at least 1"));
  }

  auto job = std::make_unique<GenerateJob>(std::move(in_flight));
  job->submitted = submitted;
  ASSIGN_OR_RETURN(Encoding encoding, EncodePrompt(request.prompt, model));
  job->original_tokens = encoding.num_tokens();
  // A prompt that is cut leaves room for what is to be generated; another, for one token at least.
  int64_t room = 1;
  if (request.truncation.side != TruncationSide::kNone) {
    room = std::min<int64_t>(request.max_new_tokens.value_or(1), limits.context_tokens - 1);
  }
  RETURN_IF_ERROR(Truncate(request.truncation, limits.context_tokens - room,
                           "beside the output the model takes", encoding));
  if (encoding.ids.empty()) return FieldError("truncation", "leaves nothing of the prompt");
  job->prompt = std::move(encoding.ids);
  job->input_tokens = static_cast<int64_t>(job->prompt.size());

  ResolveGeneration(request, model.generation, limits, static_cast<int64_t>(job->prompt.size()),
                    random_seed, job->sampling, job->stopping);
  job->end_tokens = job->stopping.stop_token_ids;
  if (!job->stopping.ignore_eos) {
    for (const int32_t id : model.generation.eos_token_ids) {
      if (id < limits.vocab_size) job->end_tokens.push_back(id);
    }
  }
  if (request.echo && model.tokenizer != nullptr) {
    ASSIGN_OR_RETURN(job->echo, model.tokenizer->Decode(job->prompt, /*skip_special_tokens=*/true));
  }
  job->control = std::move(request.control);
  job->num_sequences = request.num_sequences;
  job->top_logprobs = request.top_logprobs;
  job->logprobs = request.logprobs || request.top_logprobs > 0;
  job->prompt_logprobs = request.prompt_logprobs;
  job->priority = request.priority;
  job->cache_prefix = request.cache_prefix;
  job->sink = std::move(sink);
  job->tokenized = absl::Now();
  return job;
}

std::string TokenText(const LoadedModel& model, int32_t id) {
  if (model.tokenizer == nullptr) return "";
  const auto decode = [&](absl::Span<const int32_t> ids) {
    return model.tokenizer->Decode(ids, /*skip_special_tokens=*/false).value_or("");
  };
  // A token that begins a word has its space only behind another token.
  const std::string alone = decode({id});
  const std::string twice = decode({id, id});
  return absl::StartsWith(twice, alone) ? twice.substr(alone.size()) : alone;
}

}  // namespace attendant::engine
