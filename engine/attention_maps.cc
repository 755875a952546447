#include "engine/attention_maps.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/encode_job.h"
#include "engine/generate_job.h"

namespace attendant::engine {
namespace {

// Names of the axes travel in one message.
constexpr size_t kMaxNameBytes = size_t{1} << 20;

bool HasEncoder(const ModelDescription& model) { return model.kind != "decoder"; }
bool HasDecoder(const ModelDescription& model) { return model.kind != "encoder"; }

std::string Described(const ModelDescription& model) {
  return absl::StrCat("model \"", model.name, "\" is ", model.kind == "decoder" ? "a " : "an ",
                      model.kind);
}

absl::StatusOr<AttentionKind> ResolveKind(AttentionKind kind, const ModelDescription& model) {
  const bool has_both = HasEncoder(model) && HasDecoder(model);
  const bool has_kind = kind == AttentionKind::kEncoderSelf   ? HasEncoder(model)
                        : kind == AttentionKind::kDecoderSelf ? HasDecoder(model)
                                                              : has_both;
  if (kind == AttentionKind::kModelDefault) {
    if (!has_both) {
      return HasEncoder(model) ? AttentionKind::kEncoderSelf : AttentionKind::kDecoderSelf;
    }
    return FieldError("model.kind",
                      absl::StrCat("is not set; ", Described(model),
                                   ", whose maps are ENCODER_SELF, DECODER_SELF and CROSS"));
  }
  if (has_kind) return kind;
  return absl::FailedPreconditionError(
      absl::StrCat(Described(model), "; its maps are of kind ",
                   HasEncoder(model) ? "ENCODER_SELF" : "DECODER_SELF"));
}

// `chosen` of [0, count), ascending; all if none are chosen. With `from_end`, -1 is the last.
absl::StatusOr<std::vector<int32_t>> Choose(const std::vector<int32_t>& chosen, int32_t count,
                                            bool from_end, absl::string_view field) {
  std::vector<int32_t> result = chosen;
  for (int32_t& index : result) {
    if (index >= (from_end ? -1 : 0) && index < count) {
      if (index == -1) index = count - 1;
      continue;
    }
    return FieldError(field, absl::StrCat("holds ", index, "; this model has 0 to ", count - 1,
                                          from_end ? ", and -1 for the last" : ""));
  }
  if (result.empty()) {
    for (int32_t i = 0; i < count; ++i) result.push_back(i);
  }
  std::sort(result.begin(), result.end());
  const auto twice = std::adjacent_find(result.begin(), result.end());
  if (twice != result.end()) return FieldError(field, absl::StrCat("holds ", *twice, " twice"));
  return result;
}

absl::StatusOr<IndexRange> ChooseRange(const std::optional<IndexRange>& range, int32_t count,
                                       absl::string_view field) {
  if (!range.has_value()) return IndexRange{0, count};
  if (range->begin >= 0 && range->begin < range->end && range->end <= count) return *range;
  return FieldError(field,
                    absl::StrCat("is [", range->begin, ", ", range->end,
                                 "); it begins before it ends, within the ", count, " tokens"));
}

absl::StatusOr<std::vector<std::string>> NamesOf(const Batch& batch, IndexRange range,
                                                 const Tokenizer* tokenizer,
                                                 absl::string_view field) {
  std::vector<std::string> names;
  size_t num_bytes = 0;
  for (int32_t i = range.begin; i < range.end; ++i) {
    names.push_back(TokenText(tokenizer, batch.token_ids[i]));
    num_bytes += names.back().size() + 4;
    if (num_bytes > kMaxNameBytes) {
      return FieldError(
          field, absl::StrCat("selects ", range.size(), " tokens, whose names take ", "more than ",
                              kMaxNameBytes, " bytes; ask for a narrower range"));
    }
  }
  return names;
}

Batch OneSequence(std::vector<int32_t> ids, std::vector<int32_t> type_ids) {
  Batch batch;
  batch.token_ids = std::move(ids);
  batch.type_ids = std::move(type_ids);
  for (int32_t i = 0; i < batch.num_tokens(); ++i) batch.positions.push_back(i);
  batch.sequences.push_back({.num_queries = batch.num_tokens()});
  return batch;
}

// As Generate would have begun it: after the start token and, where the checkpoint names one, the
// default target language's.
absl::StatusOr<TokenIds> TokenizeTarget(const std::string& text, const LoadedModel& model) {
  const Tokenizer* tokenizer = OutputTokenizer(model);
  if (tokenizer == nullptr) {
    return FieldError(
        "model.target_text",
        "needs a tokenizer, and this model has none of its output; use target_tokens");
  }
  ASSIGN_OR_RETURN(const Encoding encoding, tokenizer->Encode(text, /*add_special_tokens=*/false));
  TokenIds ids = {*model.generation.decoder_start_token_id};
  const Languages* languages = model.tokenizer == nullptr ? nullptr : model.tokenizer->languages();
  if (languages != nullptr && languages->target != Languages::Target::kInSource &&
      !languages->default_target.empty()) {
    ASSIGN_OR_RETURN(const int32_t language,
                     languages->IdOf("model.target_text", languages->default_target));
    if (languages->target == Languages::Target::kDecoderStart) {
      ids = {language};
    } else {
      ids.push_back(language);
    }
  }
  ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
  return ids;
}

// What an encoder-decoder's decoder is run on.
absl::StatusOr<std::vector<int32_t>> PrepareTarget(AttendModel& request, const LoadedModel& model) {
  if (!request.target.has_value()) {
    return FieldError("model.target",
                      "is not set: one of target_text, target_tokens, which the decoder is run on");
  }
  auto* ids = std::get_if<TokenIds>(&*request.target);
  TokenIds of_text;
  if (ids == nullptr) {
    ASSIGN_OR_RETURN(of_text, TokenizeTarget(std::get<std::string>(*request.target), model));
    ids = &of_text;
  }
  const int32_t vocab_size = model.generation_limits.vocab_size;
  for (size_t i = 0; i < ids->size(); ++i) {
    if ((*ids)[i] >= 0 && (*ids)[i] < vocab_size) continue;
    return FieldError(
        absl::StrCat("model.target_tokens.ids[", i, "]"),
        absl::StrCat("is ", (*ids)[i], "; the vocabulary has ids from 0 to ", vocab_size - 1));
  }
  if (static_cast<int64_t>(ids->size()) > model.generation_limits.context_tokens) {
    return FieldError("model.target",
                      absl::StrCat("has ", ids->size(), " tokens; the decoder takes ",
                                   model.generation_limits.context_tokens));
  }
  return std::move(*ids);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelAttendJob>> PrepareAttentionMaps(
    AttendModel request, const LoadedModel& model, std::shared_ptr<RequestControl> control,
    int64_t max_bytes) {
  const ModelDescription& description = model.description;
  const bool has_both = HasEncoder(description) && HasDecoder(description);
  MapSelection selection;
  selection.reduction = request.reduction;
  ASSIGN_OR_RETURN(selection.kind, ResolveKind(request.kind, description));
  if (request.target.has_value() && !has_both) {
    return FieldError("model.target",
                      absl::StrCat("is set; ", Described(description), ", which has none"));
  }
  if (selection.kind == AttentionKind::kCross &&
      request.reduction == AttentionReduction::kRollout) {
    return FieldError("model.reduction", "is ROLLOUT, which is of self-attention; kind is CROSS");
  }
  const bool of_encoder = has_both && selection.kind == AttentionKind::kEncoderSelf;
  ASSIGN_OR_RETURN(
      selection.layers,
      Choose(request.layers, of_encoder ? model.num_encoder_layers : description.num_layers,
             /*from_end=*/true, "model.layers"));
  ASSIGN_OR_RETURN(
      selection.heads,
      Choose(request.heads, of_encoder ? model.num_encoder_heads : description.num_heads,
             /*from_end=*/false, "model.heads"));

  // An encoder's positions may be fewer than the decoder's, which the description has.
  if (has_both && request.truncation.side != TruncationSide::kNone) {
    request.truncation.max_tokens =
        std::min(request.truncation.max_tokens.value_or(description.max_source_tokens),
                 description.max_source_tokens);
  }
  int32_t original_tokens = 0;
  ASSIGN_OR_RETURN(
      EncodeJob::Input input,
      PrepareInput(request.input, /*prompt=*/"", request.truncation, model, original_tokens));
  if (has_both && static_cast<int64_t>(input.ids.size()) > description.max_source_tokens) {
    return FieldError(
        "model", absl::StrCat("the source has ", input.ids.size(), " tokens; the encoder takes ",
                              description.max_source_tokens));
  }
  MapInput of;
  if (HasEncoder(description)) {
    of.source = OneSequence(std::move(input.ids), std::move(input.type_ids));
    of.patches = std::move(input.patches);
    of.source.sequences.front().patches = of.patches;
  } else {
    of.target = OneSequence(std::move(input.ids), {});
  }
  if (has_both && !of_encoder) {
    ASSIGN_OR_RETURN(std::vector<int32_t> target, PrepareTarget(request, model));
    of.target = OneSequence(std::move(target), {});
  }

  const bool queries_are_source = selection.kind == AttentionKind::kEncoderSelf;
  const bool keys_are_source = selection.kind != AttentionKind::kDecoderSelf;
  const Batch& queries = queries_are_source ? of.source : of.target;
  const Batch& keys = keys_are_source ? of.source : of.target;
  ASSIGN_OR_RETURN(selection.queries,
                   ChooseRange(request.query_range, queries.num_tokens(), "model.query_range"));
  ASSIGN_OR_RETURN(selection.keys,
                   ChooseRange(request.key_range, keys.num_tokens(), "model.key_range"));
  if (request.top_k < 1) {
    return FieldError("model.top_k", absl::StrCat("is ", request.top_k, "; at least 1"));
  }
  selection.top_k = std::min(request.top_k, selection.keys.size());

  AttendStarted started;
  started.usage.input_tokens = int64_t{of.source.num_tokens()} + of.target.num_tokens();
  if (model.images.has_value()) {
    started.patch_grid = {
        .rows = description.image_height / description.patch_height,
        .columns = description.image_width / description.patch_width,
        .num_prefix_tokens = of.source.num_tokens() - model.images->num_patches()};
  }
  if (model.tokenizer != nullptr) {
    const auto names_of = [&](const Batch& batch, bool is_source, IndexRange range,
                              absl::string_view field) {
      const Tokenizer* tokenizer = is_source ? model.tokenizer.get() : OutputTokenizer(model);
      return NamesOf(batch, range, tokenizer, field);
    };
    ASSIGN_OR_RETURN(started.query_tokens,
                     names_of(queries, queries_are_source, selection.queries, "model.query_range"));
    ASSIGN_OR_RETURN(started.key_tokens,
                     names_of(keys, keys_are_source, selection.keys, "model.key_range"));
  }
  return ModelAttendJob::Create(std::move(of), std::move(selection), std::move(started),
                                std::move(control), max_bytes);
}

}  // namespace attendant::engine
