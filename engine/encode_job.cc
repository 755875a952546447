#include "engine/encode_job.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

Encoding FromTokenIds(TokenIds ids) {
  Encoding encoding;
  encoding.type_ids.assign(ids.size(), 0);
  encoding.offsets.resize(ids.size());
  encoding.sequence_ids.assign(ids.size(), 0);
  encoding.special_tokens_mask.assign(ids.size(), false);
  encoding.ids = std::move(ids);
  return encoding;
}

absl::Status NotRead(absl::string_view what, absl::string_view read) {
  return absl::InvalidArgumentError(absl::StrCat("is ", what, "; this model reads ", read));
}

}  // namespace

void EncodeJob::Fail(std::unique_ptr<EncodeJob> job, absl::Status status) {
  const std::unique_ptr<ResultReader> reader = std::move(job->reader);
  job.reset();
  reader->Answer(std::move(status));
}

void EncodeJob::Finish(std::unique_ptr<EncodeJob> job, absl::Time now) {
  const std::unique_ptr<ResultReader> reader = std::move(job->reader);
  reader->Complete({.input_tokens = job->num_tokens}, {.queue = job->started - job->tokenized,
                                                       .tokenize = job->tokenized - job->submitted,
                                                       .compute = job->compute,
                                                       .total = now - job->submitted});
  job.reset();
  reader->Answer(absl::OkStatus());
}

void EncodeJob::AddInput(Input input) {
  if (!input.ids.empty()) ++num_remaining;
  num_tokens += static_cast<int64_t>(input.ids.size());
  inputs.push_back(std::move(input));
}

absl::Status EncodeJob::CheckAnyGood(const absl::Status& first) const {
  if (num_remaining > 0) return absl::OkStatus();
  if (inputs.size() == 1) return first;
  return absl::Status(first.code(), absl::StrCat("none of the ", inputs.size(), " inputs is good; ",
                                                 first.message()));
}

absl::StatusOr<Encoding> TokenizeInput(EncodeInput& input, absl::string_view prompt,
                                       const LoadedModel& model) {
  if (std::holds_alternative<ImageFile>(input)) return NotRead("an image", "text and tokens");
  if (model.images.has_value()) return NotRead("text or tokens", "images");
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

absl::StatusOr<EncodeJob::Input> PrepareImage(const ImageFile& image, const Truncation& truncation,
                                              const LoadedModel& model) {
  if (!model.images.has_value()) return NotRead("an image", "text and tokens");
  const int32_t num_tokens = model.description.max_tokens;
  if (truncation.max_tokens.value_or(num_tokens) < num_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", num_tokens, " tokens, and an image is not cut; ",
                     "truncation.max_tokens is ", *truncation.max_tokens));
  }
  EncodeJob::Input input;
  ASSIGN_OR_RETURN(input.patches, model.images->Process(image.bytes, model.max_image_pixels));
  input.ids.assign(num_tokens, 0);
  std::iota(input.ids.begin(), input.ids.end() - model.images->num_patches(), 0);
  input.type_ids.assign(num_tokens, 0);
  return input;
}

absl::Status CheckImageBytes(absl::Span<const EncodeInput> inputs, const LoadedModel& model) {
  if (!model.images.has_value()) return absl::OkStatus();
  return CheckResultBytes("patches",
                          static_cast<int64_t>(inputs.size()) * model.images->patch_bytes(), model);
}

absl::StatusOr<EncodeJob::Input> ToJobInput(Encoding encoding, const LoadedModel& model) {
  if (encoding.ids.empty()) return absl::InvalidArgumentError("the text has no tokens");
  RETURN_IF_ERROR(CheckTokenIds(model, encoding.ids));
  for (int32_t& type : encoding.type_ids) {
    // A model without segments, or with one, reads a pair as one text.
    if (model.type_vocab_size <= 1) type = 0;
    if (type >= 0 && type < std::max(model.type_vocab_size, 1)) continue;
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer gives segment ", type,
                                                   "; the model has ", model.type_vocab_size));
  }
  return EncodeJob::Input{.ids = std::move(encoding.ids), .type_ids = std::move(encoding.type_ids)};
}

absl::StatusOr<EncodeJob::Input> PrepareInput(EncodeInput& input, const std::string& prompt,
                                              const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens) {
  if (const auto* image = std::get_if<ImageFile>(&input)) {
    ASSIGN_OR_RETURN(EncodeJob::Input prepared, PrepareImage(*image, truncation, model));
    original_tokens = static_cast<int32_t>(prepared.ids.size());
    return prepared;
  }
  ASSIGN_OR_RETURN(Encoding encoding, TokenizeInput(input, prompt, model));
  original_tokens = encoding.num_tokens();
  RETURN_IF_ERROR(Truncate(truncation, model.description.max_tokens, "the model takes", encoding));
  return ToJobInput(std::move(encoding), model);
}

absl::Status CheckTruncation(const Truncation& truncation) {
  if (!truncation.max_tokens.has_value() || *truncation.max_tokens >= 1) return absl::OkStatus();
  return FieldError("truncation.max_tokens",
                    absl::StrCat("is ", *truncation.max_tokens, "; at least 1"));
}

absl::Status AtInput(size_t index, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("inputs[", index, "]: ", status.message()));
}

absl::Status CheckResultBytes(absl::string_view what, int64_t num_bytes, const LoadedModel& model) {
  if (num_bytes <= model.max_encode_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " of this request take ", num_bytes,
                                                 " bytes; this server allows ",
                                                 model.max_encode_bytes, " (--max_encode_bytes)"));
}

}  // namespace attendant::engine
