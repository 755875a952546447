#include "engine/encode_job.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/embedding_output.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

PoolingKind ResolvePooling(Pooling pooling, const SentenceConfig& sentence) {
  switch (pooling) {
    case Pooling::kModelDefault:
      return sentence.pooling;
    case Pooling::kMean:
      return PoolingKind::kMean;
    case Pooling::kCls:
      return PoolingKind::kCls;
    case Pooling::kMax:
      return PoolingKind::kMax;
    case Pooling::kLastToken:
      return PoolingKind::kLastToken;
    case Pooling::kNone:
      return PoolingKind::kNone;
  }
  return sentence.pooling;
}

// What is put before every text.
absl::StatusOr<std::string> ResolvePrompt(const EncodeRequest& request,
                                          const SentenceConfig& sentence) {
  if (request.prompt.has_value() && request.prompt_name.has_value()) {
    return FieldError("prompt_name", "is set, and so is prompt; only one can be");
  }
  if (request.prompt.has_value()) return *request.prompt;
  const std::string& name = request.prompt_name.value_or(sentence.default_prompt_name);
  if (name.empty() && !request.prompt_name.has_value()) return "";
  const auto it = sentence.prompts.find(name);
  if (it != sentence.prompts.end()) return it->second;
  return FieldError("prompt_name",
                    absl::StrCat("is \"", name, "\"; this model has [",
                                 absl::StrJoin(sentence.prompts, ", ",
                                               [](std::string* out, const auto& prompt) {
                                                 absl::StrAppend(out, prompt.first);
                                               }),
                                 "]"));
}

absl::StatusOr<std::vector<int32_t>> ResolveLayers(absl::Span<const int32_t> layers,
                                                   int32_t num_layers) {
  std::vector<int32_t> resolved;
  for (const int32_t layer : layers) {
    if (layer < -1 || layer > num_layers) {
      return FieldError("hidden_layers",
                        absl::StrCat("names layer ", layer, "; this model has 0 to ", num_layers,
                                     ", and -1 for the last"));
    }
    resolved.push_back(layer == -1 ? num_layers : layer);
  }
  return resolved;
}

Encoding FromTokenIds(TokenIds ids) {
  Encoding encoding;
  encoding.type_ids.assign(ids.size(), 0);
  encoding.offsets.resize(ids.size());
  encoding.sequence_ids.assign(ids.size(), 0);
  encoding.special_tokens_mask.assign(ids.size(), false);
  encoding.ids = std::move(ids);
  return encoding;
}

absl::StatusOr<Encoding> EncodeInputText(EncodeInput& input, const std::string& prompt,
                                         const LoadedModel& model) {
  if (auto* ids = std::get_if<TokenIds>(&input)) {
    if (ids->empty()) return absl::InvalidArgumentError("has no tokens");
    RETURN_IF_ERROR(CheckTokenIds(model, *ids));
    return FromTokenIds(std::move(*ids));
  }
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  if (auto* text = std::get_if<std::string>(&input)) {
    if (text->empty()) return absl::InvalidArgumentError("the text is empty");
    return model.tokenizer->Encode(absl::StrCat(prompt, *text), /*add_special_tokens=*/true);
  }
  const TextPair& pair = std::get<TextPair>(input);
  if (pair.text.empty()) return absl::InvalidArgumentError("the text is empty");
  return model.tokenizer->EncodePair(absl::StrCat(prompt, pair.text), pair.text_pair,
                                     /*add_special_tokens=*/true);
}

absl::Status AtInput(size_t index, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("inputs[", index, "]: ", status.message()));
}

}  // namespace

absl::StatusOr<EncodeJob::Input> PrepareInput(EncodeInput& input, const std::string& prompt,
                                              const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens) {
  ASSIGN_OR_RETURN(Encoding encoding, EncodeInputText(input, prompt, model));
  original_tokens = encoding.num_tokens();
  RETURN_IF_ERROR(Truncate(truncation, model.description.max_tokens, "the model takes", encoding));
  if (encoding.ids.empty()) return absl::InvalidArgumentError("the text has no tokens");
  RETURN_IF_ERROR(CheckTokenIds(model, encoding.ids));
  const int32_t num_types = std::max(model.type_vocab_size, 1);
  for (int32_t& type : encoding.type_ids) {
    // A model without segments encodes a pair as one text.
    if (model.type_vocab_size == 0) type = 0;
    if (type >= 0 && type < num_types) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the tokenizer gives segment ", type, "; the model has ", num_types));
  }
  return EncodeJob::Input{.ids = std::move(encoding.ids), .type_ids = std::move(encoding.type_ids)};
}

absl::StatusOr<std::unique_ptr<EncodeJob>> PrepareEncode(EncodeRequest request, InFlight in_flight,
                                                         absl::Time submitted) {
  const LoadedModel& model = in_flight.model();
  auto job = std::make_unique<EncodeJob>(std::move(in_flight));
  RETURN_IF_ERROR(CheckCanEncode(model.description));
  if (request.inputs.empty()) return FieldError("inputs", "is empty; give at least one");
  job->control = std::move(request.control);
  job->submitted = submitted;
  job->pooling = ResolvePooling(request.pooling, model.sentence);
  job->normalize = request.normalize.value_or(model.sentence.normalize);
  job->output_dtype = request.output_dtype;
  job->dimensions = request.dimensions.value_or(model.hidden_size);
  if (job->dimensions < 1 || job->dimensions > model.hidden_size) {
    return FieldError(
        "dimensions",
        absl::StrCat("is ", job->dimensions, "; this model's vectors have ", model.hidden_size));
  }
  if (request.truncation.max_tokens.has_value() && *request.truncation.max_tokens < 1) {
    return FieldError("truncation.max_tokens",
                      absl::StrCat("is ", *request.truncation.max_tokens, "; at least 1"));
  }
  RETURN_IF_ERROR(CheckEmbeddingType(job->output_dtype, job->dimensions, job->normalize));
  ASSIGN_OR_RETURN(const std::string prompt, ResolvePrompt(request, model.sentence));
  ASSIGN_OR_RETURN(job->hidden_layers,
                   ResolveLayers(request.hidden_layers, model.description.num_layers));

  int64_t num_rows = 0, num_tokens = 0;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    EncodedInput& encoded = job->result.inputs.emplace_back();
    EncodeJob::Input& prepared = job->inputs.emplace_back();
    absl::StatusOr<EncodeJob::Input> input =
        PrepareInput(request.inputs[i], prompt, request.truncation, model, encoded.original_tokens);
    if (!input.ok()) {
      encoded.status = AtInput(i, input.status());
      continue;
    }
    prepared = *std::move(input);
    prepared.first_hidden_row = num_tokens;
    encoded.num_tokens = static_cast<int32_t>(prepared.ids.size());
    encoded.num_rows = job->pooling == PoolingKind::kNone ? encoded.num_tokens : 1;
    encoded.row = static_cast<int32_t>(num_rows);
    num_rows += encoded.num_rows;
    num_tokens += encoded.num_tokens;
    ++job->num_remaining;
  }
  if (job->num_remaining == 0) {
    const absl::Status& first = job->result.inputs.front().status;
    if (job->inputs.size() == 1) return first;
    return absl::Status(first.code(), absl::StrCat("none of the ", job->inputs.size(),
                                                   " inputs is good; ", first.message()));
  }
  const int64_t num_values =
      num_rows * job->dimensions +
      num_tokens * model.hidden_size * static_cast<int64_t>(job->hidden_layers.size());
  const int64_t num_bytes = num_values * static_cast<int64_t>(sizeof(float));
  if (num_bytes > model.max_encode_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the vectors of this request take ", num_bytes, " bytes; this server allows ",
                     model.max_encode_bytes, " (--max_encode_bytes)"));
  }
  job->embeddings.resize(num_rows * job->dimensions);
  job->hidden_states.assign(job->hidden_layers.size(),
                            std::vector<float>(num_tokens * model.hidden_size));
  job->result.usage.input_tokens = num_tokens;
  job->tokenized = absl::Now();
  return job;
}

void EncodeJob::Fail(std::unique_ptr<EncodeJob> job, absl::Status status) {
  Engine::EncodeCallback done = std::move(job->done);
  job.reset();
  std::move(done)(std::move(status));
}

void EncodeJob::Finish(std::unique_ptr<EncodeJob> job, absl::Time now) {
  const int64_t hidden_size = job->in_flight.model().hidden_size;
  EncodeResult result = std::move(job->result);
  const auto num_rows = static_cast<int64_t>(job->embeddings.size()) / job->dimensions;
  result.embeddings = ConvertEmbeddings(
      ConstMatrix(job->embeddings.data(), num_rows, job->dimensions), job->output_dtype);
  for (const std::vector<float>& hidden : job->hidden_states) {
    const ConstMatrix rows(hidden.data(), static_cast<int64_t>(hidden.size()) / hidden_size,
                           hidden_size);
    result.hidden_states.push_back(ConvertEmbeddings(rows, DataType::kFloat32));
  }
  result.timings.tokenize = job->tokenized - job->submitted;
  result.timings.queue = job->started - job->tokenized;
  result.timings.total = now - job->submitted;
  Engine::EncodeCallback done = std::move(job->done);
  job.reset();
  std::move(done)(std::move(result));
}

}  // namespace attendant::engine
