#include "server/rpc/head_conversion.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/utf8.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

constexpr int kMaxCandidates = 1000;
constexpr int kMaxTargets = 1000;
constexpr int kMaxAnswers = 100;
constexpr int64_t kDefaultOverlap = 128;
constexpr int64_t kMaxWindows = 1024;

std::string InputPath(size_t index) { return absl::StrCat("inputs[", index, "]"); }

// OK if any is.
absl::Status CheckAnyGood(const std::vector<absl::Status>& input_status) {
  const bool any_good = std::any_of(input_status.begin(), input_status.end(),
                                    [](const absl::Status& status) { return status.ok(); });
  return any_good ? absl::OkStatus() : input_status.front();
}

// What a text adds to admission; a longer one is refused or cut.
int64_t TextTokens(int64_t bytes, const engine::ModelDescription& model) {
  return std::min<int64_t>(bytes / 4 + 2, model.max_tokens);
}

absl::StatusOr<engine::TokenIds> TokensFromMessage(const v1::TokenIds& message,
                                                   const std::string& path,
                                                   const engine::ModelDescription& model) {
  const std::string ids_path = absl::StrCat(path, ".tokens.ids");
  if (message.ids().empty())
    return InvalidField(ids_path, "is empty; an input has at least one token");
  RETURN_IF_ERROR(CheckTokenIds(ids_path, message.ids(), model.vocab_size));
  return engine::TokenIds(message.ids().begin(), message.ids().end());
}

absl::StatusOr<engine::FillMaskInput> InputFromMessage(v1::FillMaskInput& message,
                                                       const std::string& path,
                                                       const engine::ModelDescription& model,
                                                       int64_t& num_tokens) {
  switch (message.input_case()) {
    case v1::FillMaskInput::kText:
      num_tokens += TextTokens(message.text().size(), model);
      return engine::FillMaskInput(std::move(*message.mutable_text()));
    case v1::FillMaskInput::kTokens: {
      num_tokens += std::min<int64_t>(message.tokens().ids_size(), model.max_tokens);
      ASSIGN_OR_RETURN(engine::TokenIds ids, TokensFromMessage(message.tokens(), path, model));
      return engine::FillMaskInput(std::move(ids));
    }
    case v1::FillMaskInput::INPUT_NOT_SET:
      break;
  }
  return InvalidField(path, "is not set: one of text, tokens");
}

absl::StatusOr<engine::ClassifyInput> InputFromMessage(v1::ClassifyInput& message,
                                                       const std::string& path,
                                                       const engine::ModelDescription& model,
                                                       int64_t& num_tokens) {
  RETURN_IF_ERROR(CheckInputKind(path, message.input_case() == v1::ClassifyInput::kImage, model));
  switch (message.input_case()) {
    case v1::ClassifyInput::kText:
      num_tokens += TextTokens(message.text().size(), model);
      return engine::ClassifyInput(std::move(*message.mutable_text()));
    case v1::ClassifyInput::kPair:
      num_tokens +=
          TextTokens(message.pair().text().size() + message.pair().text_pair().size(), model);
      return engine::ClassifyInput(
          engine::TextPair{std::move(*message.mutable_pair()->mutable_text()),
                           std::move(*message.mutable_pair()->mutable_text_pair())});
    case v1::ClassifyInput::kTokens: {
      num_tokens += std::min<int64_t>(message.tokens().ids_size(), model.max_tokens);
      ASSIGN_OR_RETURN(engine::TokenIds ids, TokensFromMessage(message.tokens(), path, model));
      return engine::ClassifyInput(std::move(ids));
    }
    case v1::ClassifyInput::kImage:
      num_tokens += model.max_tokens;
      return engine::ClassifyInput(engine::ImageFile{std::move(*message.mutable_image())});
    case v1::ClassifyInput::INPUT_NOT_SET:
      break;
  }
  return InvalidField(path, "is not set: one of text, pair, tokens, image");
}

// The inputs of `message`, those that are bad left empty.
template <typename Message, typename Conversion>
absl::Status InputsFromMessage(Message& message, const engine::ModelDescription& model,
                               const RequestLimits& limits, Conversion& conversion) {
  RETURN_IF_ERROR(CheckNumInputs("inputs", message.inputs_size(), limits));
  for (int i = 0; i < message.inputs_size(); ++i) {
    auto input =
        InputFromMessage(*message.mutable_inputs(i), InputPath(i), model, conversion.num_tokens);
    conversion.input_status.push_back(input.status());
    conversion.request.inputs.push_back(input.ok() ? *std::move(input) : engine::TokenIds());
  }
  return CheckAnyGood(conversion.input_status);
}

// The tokens of all windows of a context that is too long for one.
int64_t WindowTokens(const v1::AnswerInput& input, std::optional<int32_t> overlap_tokens,
                     const engine::ModelDescription& model) {
  const int64_t question = EstimateTokens(input.question());
  const int64_t context = EstimateTokens(input.context());
  const int64_t room = std::max<int64_t>(1, model.max_tokens - question);
  if (context <= room) return question + context;
  const int64_t overlap =
      std::min(room - 1, overlap_tokens.has_value() ? int64_t{*overlap_tokens}
                                                    : std::min(kDefaultOverlap, room / 2));
  const int64_t windows = 2 + (context - room) / (room - overlap);
  return std::min(windows, kMaxWindows) * model.max_tokens;
}

void SpanToMessage(const engine::TextSpan& span, v1::TextSpan* message) {
  message->set_byte_start(span.byte_begin);
  message->set_byte_end(span.byte_end);
  message->set_char_start(span.char_begin);
  message->set_char_end(span.char_end);
}

// The status of an input: of the conversion, or else of the engine.
google::rpc::Status StatusToMessage(const std::vector<absl::Status>& input_status, size_t index,
                                    const absl::Status& engine_status, const std::string& path) {
  const absl::Status& converted = input_status[index];
  return ToRpcStatus(WithField(converted.ok() ? engine_status : converted, path));
}

void LabelsToMessage(std::vector<engine::LabelScore> labels,
                     google::protobuf::RepeatedPtrField<v1::LabelScore>* messages) {
  for (engine::LabelScore& label : labels) {
    v1::LabelScore* message = messages->Add();
    message->set_label(ToValidUtf8(std::move(label.label)));
    message->set_score(label.score);
  }
}

template <typename Result, typename Message>
void CommonToMessage(const Result& result, const std::string& model, absl::Duration total,
                     Message& message) {
  message.set_model(model);
  UsageToMessage(result.usage, message.mutable_usage());
  TimingToMessage(result.timings, total, message.mutable_timing());
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------
// FillMask.

absl::StatusOr<HeadConversion<engine::FillMaskRequest>> FromMessage(
    v1::FillMaskRequest& message, const engine::ModelDescription& model,
    const RequestLimits& limits) {
  HeadConversion<engine::FillMaskRequest> conversion;
  engine::FillMaskRequest& request = conversion.request;
  if (message.has_top_k()) {
    RETURN_IF_ERROR(CheckRange("top_k", message.top_k(), 1, kMaxCandidates));
    request.top_k = message.top_k();
  }
  if (message.targets_size() > kMaxTargets) {
    return InvalidField("targets", absl::StrCat("has ", message.targets_size(),
                                                " entries; the limit is ", kMaxTargets));
  }
  for (int i = 0; i < message.targets_size(); ++i) {
    if (message.targets(i).empty())
      return InvalidField(absl::StrCat("targets[", i, "]"), "is empty");
    request.targets.push_back(std::move(*message.mutable_targets(i)));
  }
  ASSIGN_OR_RETURN(request.truncation,
                   TruncationFromMessage(message.truncation(), "truncation", model.max_tokens));
  RETURN_IF_ERROR(InputsFromMessage(message, model, limits, conversion));
  return conversion;
}

v1::FillMaskResponse ToMessage(engine::FillMaskResult result,
                               const std::vector<absl::Status>& input_status,
                               const std::string& model, absl::Duration total) {
  v1::FillMaskResponse message;
  CommonToMessage(result, model, total, message);
  for (size_t i = 0; i < result.inputs.size(); ++i) {
    engine::FilledInput& filled = result.inputs[i];
    v1::FilledInput* input = message.add_inputs();
    *input->mutable_status() = StatusToMessage(input_status, i, filled.status, InputPath(i));
    input->set_num_tokens(filled.num_tokens);
    input->set_original_tokens(filled.original_tokens);
    if (!filled.status.ok()) continue;
    for (engine::FilledMask& filled_mask : filled.masks) {
      v1::FilledMask* mask = input->add_masks();
      mask->set_token_index(filled_mask.token_index);
      for (engine::MaskCandidate& best : filled_mask.candidates) {
        v1::MaskCandidate* candidate = mask->add_candidates();
        candidate->set_token_id(best.id);
        candidate->set_token(ToValidUtf8(std::move(best.token)));
        candidate->set_score(best.score);
      }
    }
  }
  return message;
}

// ---------------------------------------------------------------------------------------------------------------------
// Classify.

absl::StatusOr<HeadConversion<engine::ClassifyRequest>> FromMessage(
    v1::ClassifyRequest& message, const engine::ModelDescription& model,
    const RequestLimits& limits) {
  HeadConversion<engine::ClassifyRequest> conversion;
  engine::ClassifyRequest& request = conversion.request;
  RETURN_IF_ERROR(Optional(message.has_top_k(), message.top_k(), request.top_k,
                           [&] { return CheckAtLeast("top_k", message.top_k(), 1); }));
  request.raw_scores = message.raw_scores();
  switch (message.aggregation()) {
    case v1::TOKEN_AGGREGATION_UNSPECIFIED:
      break;
    case v1::TOKEN_AGGREGATION_NONE:
      request.aggregation = engine::TokenAggregation::kNone;
      break;
    case v1::TOKEN_AGGREGATION_ENTITY:
      request.aggregation = engine::TokenAggregation::kEntity;
      break;
    default:
      return UnknownEnum("aggregation", message.aggregation());
  }
  ASSIGN_OR_RETURN(request.truncation,
                   TruncationFromMessage(message.truncation(), "truncation", model.max_tokens));
  RETURN_IF_ERROR(InputsFromMessage(message, model, limits, conversion));
  return conversion;
}

v1::ClassifyResponse ToMessage(engine::ClassifyResult result,
                               const std::vector<absl::Status>& input_status,
                               const std::string& model, absl::Duration total) {
  v1::ClassifyResponse message;
  CommonToMessage(result, model, total, message);
  for (size_t i = 0; i < result.inputs.size(); ++i) {
    engine::ClassifiedInput& classified = result.inputs[i];
    v1::ClassifiedInput* input = message.add_inputs();
    *input->mutable_status() = StatusToMessage(input_status, i, classified.status, InputPath(i));
    input->set_num_tokens(classified.num_tokens);
    input->set_original_tokens(classified.original_tokens);
    LabelsToMessage(std::move(classified.labels), input->mutable_labels());
    for (engine::LabeledSpan& labeled : classified.spans) {
      v1::LabeledSpan* span = input->add_spans();
      LabelsToMessage(std::move(labeled.labels), span->mutable_labels());
      SpanToMessage(labeled.span, span->mutable_span());
      span->set_text(ToValidUtf8(std::move(labeled.text)));
    }
  }
  return message;
}

// ---------------------------------------------------------------------------------------------------------------------
// Rank.

absl::StatusOr<HeadConversion<engine::RankRequest>> FromMessage(
    v1::RankRequest& message, const engine::ModelDescription& model, const RequestLimits& limits) {
  HeadConversion<engine::RankRequest> conversion;
  engine::RankRequest& request = conversion.request;
  if (message.query().empty()) return InvalidField("query", "is empty");
  RETURN_IF_ERROR(CheckNumInputs("documents", message.documents_size(), limits));
  RETURN_IF_ERROR(Optional(message.has_top_n(), message.top_n(), request.top_n,
                           [&] { return CheckAtLeast("top_n", message.top_n(), 1); }));
  request.raw_scores = message.raw_scores();
  ASSIGN_OR_RETURN(request.truncation,
                   TruncationFromMessage(message.truncation(), "truncation", model.max_tokens));
  for (std::string& document : *message.mutable_documents()) {
    conversion.num_tokens +=
        TextTokens(static_cast<int64_t>(message.query().size() + document.size()), model);
    conversion.input_status.push_back(absl::OkStatus());
    request.documents.push_back(std::move(document));
  }
  request.query = std::move(*message.mutable_query());
  return conversion;
}

v1::RankResponse ToMessage(engine::RankResult result, const std::vector<absl::Status>& input_status,
                           const std::string& model, absl::Duration total) {
  v1::RankResponse message;
  CommonToMessage(result, model, total, message);
  for (const engine::RankedDocument& ranked : result.documents) {
    v1::RankedDocument* document = message.add_documents();
    document->set_index(ranked.index);
    document->set_score(ranked.score);
    *document->mutable_status() = StatusToMessage(input_status, ranked.index, ranked.status,
                                                  absl::StrCat("documents[", ranked.index, "]"));
    document->set_num_tokens(ranked.num_tokens);
    document->set_original_tokens(ranked.original_tokens);
  }
  return message;
}

// ---------------------------------------------------------------------------------------------------------------------
// Answer.

absl::StatusOr<HeadConversion<engine::AnswerRequest>> FromMessage(
    v1::AnswerRequest& message, const engine::ModelDescription& model,
    const RequestLimits& limits) {
  HeadConversion<engine::AnswerRequest> conversion;
  engine::AnswerRequest& request = conversion.request;
  RETURN_IF_ERROR(CheckNumInputs("inputs", message.inputs_size(), limits));
  if (message.has_top_k()) {
    RETURN_IF_ERROR(CheckRange("top_k", message.top_k(), 1, kMaxAnswers));
    request.top_k = message.top_k();
  }
  if (message.has_max_answer_tokens()) {
    RETURN_IF_ERROR(CheckAtLeast("max_answer_tokens", message.max_answer_tokens(), 1));
    request.max_answer_tokens = message.max_answer_tokens();
  }
  RETURN_IF_ERROR(Optional(message.has_window_overlap_tokens(), message.window_overlap_tokens(),
                           request.window_overlap_tokens, [&] {
                             return CheckRange("window_overlap_tokens",
                                               message.window_overlap_tokens(), 0,
                                               model.max_tokens - 1);
                           }));
  request.allow_no_answer = message.allow_no_answer();
  for (int i = 0; i < message.inputs_size(); ++i) {
    v1::AnswerInput& input = *message.mutable_inputs(i);
    absl::Status status;
    if (input.question().empty()) status = InvalidField(InputPath(i) + ".question", "is empty");
    if (input.context().empty()) status = InvalidField(InputPath(i) + ".context", "is empty");
    if (status.ok()) {
      conversion.num_tokens += WindowTokens(input, request.window_overlap_tokens, model);
    }
    conversion.input_status.push_back(std::move(status));
    request.inputs.push_back({.question = std::move(*input.mutable_question()),
                              .context = std::move(*input.mutable_context())});
  }
  RETURN_IF_ERROR(CheckAnyGood(conversion.input_status));
  return conversion;
}

v1::AnswerResponse ToMessage(engine::AnswerResult result,
                             const std::vector<absl::Status>& input_status,
                             const std::string& model, absl::Duration total) {
  v1::AnswerResponse message;
  CommonToMessage(result, model, total, message);
  for (size_t i = 0; i < result.inputs.size(); ++i) {
    engine::AnsweredInput& answered = result.inputs[i];
    v1::AnsweredInput* input = message.add_inputs();
    *input->mutable_status() = StatusToMessage(input_status, i, answered.status, InputPath(i));
    input->set_num_tokens(answered.num_tokens);
    for (engine::AnswerSpan& span : answered.answers) {
      v1::AnswerSpan* answer = input->add_answers();
      answer->set_text(ToValidUtf8(std::move(span.text)));
      answer->set_score(span.score);
      if (span.span.has_value()) SpanToMessage(*span.span, answer->mutable_span());
    }
  }
  return message;
}

}  // namespace attendant::server
