// Classify: labels of whole inputs, or of their tokens. Scores are those of transformers'
// text-classification pipeline; entities those of its token-classification pipeline, "simple".

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/readers/readers.h"
#include "engine/readers/scores.h"
#include "engine/text_index.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

ScoreKind ScoresOf(const ClassifyRequest& request, const LoadedModel& model) {
  if (request.raw_scores) return ScoreKind::kLogits;
  if (model.description.labels_tokens) return ScoreKind::kSoftmax;
  switch (model.problem_type) {
    case ProblemType::kRegression:
      return ScoreKind::kLogits;
    case ProblemType::kMultiLabel:
      return ScoreKind::kSigmoid;
    case ProblemType::kSingleLabel:
    case ProblemType::kUnset:
      break;
  }
  return model.description.labels.size() == 1 ? ScoreKind::kSigmoid : ScoreKind::kSoftmax;
}

class LabelReader : public ReaderOf<ClassifyResult> {
 public:
  LabelReader(const LoadedModel& model, ScoreKind scores, int32_t top_k)
      : labels_(model.description.labels), scores_(scores) {
    top_k_ = std::min<int64_t>(top_k, static_cast<int64_t>(labels_.size()));
    for (const std::string& label : labels_) {
      longest_label_ = std::max(longest_label_, static_cast<int64_t>(label.size()));
    }
  }

  // What `num_lists` lists of labels take in an answer, about.
  int64_t result_bytes(int64_t num_lists) const {
    const int64_t list = top_k_ * (int64_t{sizeof(LabelScore)} + longest_label_);
    return num_lists * (list + int64_t{sizeof(LabeledSpan)});
  }
  const absl::Status& first_status() const { return result_.inputs.front().status; }

 protected:
  void AddInput(absl::Status status, int32_t num_tokens, int32_t original_tokens) {
    ClassifiedInput& classified = result_.inputs.emplace_back();
    classified.original_tokens = original_tokens;
    if (status.ok()) classified.num_tokens = num_tokens;
    classified.status = std::move(status);
  }

  // The best labels of one row.
  std::vector<LabelScore> Best(const float* logits) {
    const std::vector<float> scores = Scores(absl::MakeConstSpan(logits, labels_.size()), scores_);
    order_.resize(labels_.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::partial_sort(order_.begin(), order_.begin() + top_k_, order_.end(), BestFirst(scores));
    std::vector<LabelScore> best;
    best.reserve(top_k_);
    for (int64_t i = 0; i < top_k_; ++i) {
      best.push_back({.label = labels_[order_[i]], .score = scores[order_[i]]});
    }
    return best;
  }

 private:
  const std::vector<std::string>& labels_;  // of a model that is in flight while the job is
  const ScoreKind scores_;
  int64_t top_k_ = 0;
  int64_t longest_label_ = 0;
  std::vector<int32_t> order_;
};

// Labels whole inputs.
class InputLabelReader : public LabelReader {
 public:
  using LabelReader::AddInput;
  using LabelReader::LabelReader;

  void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext&) override {
    network.HeadLogits(
        HeadKind::kSequenceClassification, hidden, {0},
        [&](int64_t, ConstMatrix logits) { result_.inputs[input].labels = Best(logits.row(0)); });
  }
};

// An entity's label as a tagger gives it: "B-PER" begins one, "I-PER" or "PER" goes on.
struct Tag {
  bool begins = false;
  absl::string_view entity;
};
Tag ParseTag(absl::string_view label) {
  Tag tag;
  tag.begins = absl::ConsumePrefix(&label, "B-");
  if (!tag.begins) absl::ConsumePrefix(&label, "I-");
  tag.entity = label;
  return tag;
}

// Labels tokens, but for those that the tokenizer added.
class TokenLabelReader : public LabelReader {
 public:
  TokenLabelReader(const LoadedModel& model, ScoreKind scores, int32_t top_k, bool joins_entities)
      : LabelReader(model, scores, top_k), joins_entities_(joins_entities) {}

  // `text` is empty where the input was token ids.
  void AddInput(absl::Status status, const Encoding& encoding, std::string text,
                int32_t original_tokens) {
    Source& source = sources_.emplace_back();
    if (status.ok()) {
      const TextIndex index(text);
      for (int32_t i = 0; i < encoding.num_tokens(); ++i) {
        if (encoding.special_tokens_mask[i]) continue;
        source.rows.push_back(i);
        source.spans.push_back(index.Span(encoding.offsets[i]));
      }
      source.text = std::move(text);
      num_rows_ += static_cast<int64_t>(source.rows.size());
    }
    LabelReader::AddInput(std::move(status), encoding.num_tokens(), original_tokens);
  }

  int64_t num_rows() const { return num_rows_; }

  void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext&) override {
    const Source& source = sources_[input];
    std::vector<LabeledSpan>& spans = result_.inputs[input].spans;
    spans.reserve(source.rows.size());
    network.HeadLogits(
        HeadKind::kTokenClassification, hidden, source.rows,
        [&](int64_t first, ConstMatrix logits) {
          for (int64_t i = 0; i < logits.rows; ++i) {
            spans.push_back({.labels = Best(logits.row(i)), .span = source.spans[first + i]});
          }
        });
    if (joins_entities_) spans = JoinEntities(std::move(spans));
    for (LabeledSpan& span : spans) {
      span.text =
          source.text.substr(span.span.byte_begin, span.span.byte_end - span.span.byte_begin);
    }
    sources_[input] = Source();
  }

 private:
  struct Source {
    std::string text;
    std::vector<int32_t> rows;
    std::vector<TextSpan> spans;  // of each row
  };

  // Neighbours with one entity's label become one span with the mean of their scores; those outside
  // all entities, "O", go.
  static std::vector<LabeledSpan> JoinEntities(std::vector<LabeledSpan> tokens) {
    std::vector<LabeledSpan> entities;
    for (size_t begin = 0, end; begin < tokens.size(); begin = end) {
      const std::string entity(ParseTag(tokens[begin].labels[0].label).entity);
      double sum = tokens[begin].labels[0].score;
      for (end = begin + 1; end < tokens.size(); ++end) {
        const Tag tag = ParseTag(tokens[end].labels[0].label);
        if (tag.begins || tag.entity != entity) break;
        sum += tokens[end].labels[0].score;
      }
      if (entity == "O") continue;
      TextSpan span = tokens[begin].span;
      span.byte_end = tokens[end - 1].span.byte_end;
      span.char_end = tokens[end - 1].span.char_end;
      const auto score = static_cast<float>(sum / static_cast<double>(end - begin));
      entities.push_back({.labels = {{.label = entity, .score = score}}, .span = span});
    }
    return entities;
  }

  const bool joins_entities_;
  std::vector<Source> sources_;  // of each input
  int64_t num_rows_ = 0;
};

absl::StatusOr<Encoding> PrepareInput(ClassifyInput& input, const Truncation& truncation,
                                      const LoadedModel& model, int32_t& original_tokens) {
  ASSIGN_OR_RETURN(Encoding encoding, TokenizeInput(input, /*prompt=*/"", model));
  original_tokens = encoding.num_tokens();
  RETURN_IF_ERROR(Truncate(truncation, model.description.max_tokens, "the model takes", encoding));
  return encoding;
}

// What a model that labels tokens cannot say of an input.
absl::Status CheckHasOffsets(const ClassifyInput& input, bool joins_entities) {
  if (std::holds_alternative<TextPair>(input)) {
    return absl::InvalidArgumentError(
        "is a pair of texts; this model labels tokens, of one text at a time");
  }
  if (joins_entities && std::holds_alternative<TokenIds>(input)) {
    return absl::InvalidArgumentError("is token ids; entities are parts of a text");
  }
  return absl::OkStatus();
}

// An input whose tokens do not matter by themselves, which may be an image.
absl::StatusOr<EncodeJob::Input> PrepareLabeled(ClassifyInput& input, const Truncation& truncation,
                                                const LoadedModel& model,
                                                int32_t& original_tokens) {
  if (const auto* image = std::get_if<ImageFile>(&input)) {
    ASSIGN_OR_RETURN(EncodeJob::Input prepared, PrepareImage(*image, truncation, model));
    original_tokens = static_cast<int32_t>(prepared.ids.size());
    return prepared;
  }
  ASSIGN_OR_RETURN(Encoding encoding, PrepareInput(input, truncation, model, original_tokens));
  return ToJobInput(std::move(encoding), model);
}

absl::StatusOr<std::unique_ptr<ResultReader>> PrepareLabels(ClassifyRequest& request,
                                                            const LoadedModel& model,
                                                            EncodeJob& job,
                                                            Engine::ClassifyCallback& done) {
  const auto num_labels = static_cast<int32_t>(model.description.labels.size());
  auto reader = std::make_unique<InputLabelReader>(model, ScoresOf(request, model),
                                                   request.top_k.value_or(num_labels));
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    RETURN_IF_ERROR(job.control->Check(absl::Now()));
    int32_t original_tokens = 0;
    absl::StatusOr<EncodeJob::Input> input =
        PrepareLabeled(request.inputs[i], request.truncation, model, original_tokens);
    const absl::Status status = AtInput(i, input.status());
    job.AddInput(std::move(input).value_or(EncodeJob::Input()));
    reader->AddInput(status, static_cast<int32_t>(job.inputs.back().ids.size()), original_tokens);
  }
  RETURN_IF_ERROR(job.CheckAnyGood(reader->first_status()));
  RETURN_IF_ERROR(CheckResultBytes("labels", reader->result_bytes(job.num_remaining), model));
  reader->set_done(std::move(done));
  return reader;
}

absl::StatusOr<Encoding> PrepareLabeledTokens(ClassifyInput& input, bool joins_entities,
                                              const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens) {
  RETURN_IF_ERROR(CheckHasOffsets(input, joins_entities));
  return PrepareInput(input, truncation, model, original_tokens);
}

absl::StatusOr<std::unique_ptr<ResultReader>> PrepareTokenLabels(ClassifyRequest& request,
                                                                 const LoadedModel& model,
                                                                 EncodeJob& job,
                                                                 Engine::ClassifyCallback& done) {
  const bool joins_entities = request.aggregation == TokenAggregation::kEntity;
  if (joins_entities && request.top_k.value_or(1) > 1) {
    return FieldError("top_k",
                      absl::StrCat("is ", *request.top_k, "; an entity has one label, its best"));
  }
  auto reader = std::make_unique<TokenLabelReader>(model, ScoresOf(request, model),
                                                   request.top_k.value_or(1), joins_entities);
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    ClassifyInput& form = request.inputs[i];
    int32_t original_tokens = 0;
    absl::StatusOr<Encoding> encoding =
        PrepareLabeledTokens(form, joins_entities, request.truncation, model, original_tokens);
    absl::StatusOr<EncodeJob::Input> input =
        encoding.ok() ? ToJobInput(*encoding, model) : encoding.status();
    auto* text = std::get_if<std::string>(&form);
    reader->AddInput(AtInput(i, input.status()), encoding.ok() ? *encoding : Encoding(),
                     text != nullptr ? std::move(*text) : std::string(), original_tokens);
    job.AddInput(std::move(input).value_or(EncodeJob::Input()));
  }
  RETURN_IF_ERROR(job.CheckAnyGood(reader->first_status()));
  RETURN_IF_ERROR(CheckResultBytes("labels", reader->result_bytes(reader->num_rows()), model));
  reader->set_done(std::move(done));
  return reader;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(ClassifyRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::ClassifyCallback& done) {
  const LoadedModel& model = in_flight.model();
  auto job =
      std::make_unique<EncodeJob>(std::move(in_flight), std::move(request.control), submitted);
  RETURN_IF_ERROR(CheckHasHead(model.description, model.description.can_classify, "Classify"));
  if (request.inputs.empty()) return FieldError("inputs", "is empty; give at least one");
  if (request.top_k.has_value() && *request.top_k < 1) {
    return FieldError("top_k", absl::StrCat("is ", *request.top_k, "; at least 1"));
  }
  RETURN_IF_ERROR(CheckTruncation(request.truncation));
  RETURN_IF_ERROR(CheckImageBytes(request.inputs, model));
  const bool labels_tokens = model.description.labels_tokens;
  if (request.aggregation.has_value() && !labels_tokens) {
    return FieldError("aggregation", "is set; this model labels whole inputs, not their tokens");
  }
  ASSIGN_OR_RETURN(job->reader, labels_tokens ? PrepareTokenLabels(request, model, *job, done)
                                              : PrepareLabels(request, model, *job, done));
  job->tokenized = absl::Now();
  return job;
}

}  // namespace attendant::engine
