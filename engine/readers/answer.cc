// Answer: the span of a context that answers a question. Devlin et al., "BERT", 2018, section 4.2:
// a span scores as the product of the probability that an answer starts at its first token and that
// one ends at its last. Windows and scores are those of transformers' question-answering pipeline,
// but for two: a span is never stretched to whole words, and one that two windows see is one
// answer, with the better score.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/readers/readers.h"
#include "engine/readers/scores.h"
#include "engine/text_index.h"

namespace attendant::engine {
namespace {

constexpr int32_t kMaxTopK = 100;
constexpr int32_t kDefaultOverlap = 128;

// Windows of one context: neighbours may share all but one of their tokens, and the work must not
// grow with the square of the context.
constexpr int64_t kMaxWindows = 1024;

struct Candidate {
  TextRange range;  // of the context
  double score = 0;
};

// Earlier spans first among equals, the shorter first among those.
bool Better(const Candidate& a, const Candidate& b) {
  if (a.score != b.score) return a.score > b.score;
  if (a.range.begin != b.range.begin) return a.range.begin < b.range.begin;
  return a.range.end < b.range.end;
}

// Sorts the candidates, and keeps the best `count` of different spans.
void KeepBest(size_t count, std::vector<Candidate>& candidates) {
  std::sort(candidates.begin(), candidates.end(), Better);
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size() && kept < count; ++i) {
    const bool seen = std::any_of(candidates.begin(), candidates.begin() + kept,
                                  [&](const auto& c) { return c.range == candidates[i].range; });
    if (!seen) candidates[kept++] = candidates[i];
  }
  candidates.resize(kept);
}

class AnswerReader : public ReaderOf<AnswerResult> {
 public:
  explicit AnswerReader(const AnswerRequest& request)
      : top_k_(request.top_k),
        max_answer_tokens_(request.max_answer_tokens),
        allow_no_answer_(request.allow_no_answer) {}

  void AddBadInput(absl::Status status) {
    result_.inputs.push_back({.status = std::move(status)});
    questions_.emplace_back();
  }
  void AddInput(std::string context) {
    result_.inputs.emplace_back();
    questions_.push_back({.context = std::move(context)});
  }

  // A window of the input that was added last, as an input of the job.
  void AddWindow(const Encoding& encoding) {
    Window& window = windows_.emplace_back();
    window.question = questions_.size() - 1;
    window.has_null = encoding.sequence_ids[0] < 0;
    for (int32_t i = 0; i < encoding.num_tokens(); ++i) {
      if (encoding.sequence_ids[i] != 1) continue;
      if (window.offsets.empty()) window.first_row = i;
      window.offsets.push_back(encoding.offsets[i]);
    }
    result_.inputs.back().num_tokens += encoding.num_tokens();
  }

  const absl::Status& first_status() const { return result_.inputs.front().status; }

  void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext&) override {
    Window& window = windows_[input];
    // The first token says where there is no answer; behind it come those of the context.
    std::vector<int32_t> rows(1, 0);
    for (size_t i = 0; i < window.offsets.size(); ++i) {
      rows.push_back(window.first_row + static_cast<int32_t>(i));
    }
    std::vector<double> start(rows.size()), end(rows.size());
    network.HeadLogits(HeadKind::kQuestionAnswering, hidden, rows,
                       [&](int64_t first, ConstMatrix logits) {
                         for (int64_t i = 0; i < logits.rows; ++i) {
                           start[first + i] = logits.row(i)[0];
                           end[first + i] = logits.row(i)[1];
                         }
                       });
    constexpr double kNever = -std::numeric_limits<double>::infinity();
    if (!window.has_null) start[0] = end[0] = kNever;
    Softmax(start);
    Softmax(end);
    Question& question = questions_[window.question];
    question.null_score = std::min(question.null_score, start[0] * end[0]);
    CollectSpans(window, start, end, question.candidates);
    KeepBest(top_k_, question.candidates);
    window = Window();
  }

  void Complete(const RequestUsage& usage, const RequestTimings& timings) override {
    for (size_t i = 0; i < questions_.size(); ++i) {
      if (result_.inputs[i].status.ok()) result_.inputs[i].answers = Answers(questions_[i]);
    }
    ReaderOf::Complete(usage, timings);
  }

 private:
  struct Question {
    std::string context;
    std::vector<Candidate> candidates;
    double null_score = 1.0;  // the least of all windows
  };
  struct Window {
    size_t question = 0;
    bool has_null = false;           // its first token is special
    int32_t first_row = 0;           // of the context
    std::vector<TextRange> offsets;  // of its rows
  };

  static void Softmax(std::vector<double>& x) {
    const double largest = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (double& value : x) sum += value = std::exp(value - largest);
    // No number: weights that overflow must not break a sort.
    for (double& value : x) value = std::isnan(sum) ? 0 : value / sum;
  }

  // The best spans of one window, behind those that are there.
  void CollectSpans(const Window& window, const std::vector<double>& start,
                    const std::vector<double>& end, std::vector<Candidate>& candidates) const {
    const auto num_tokens = static_cast<int64_t>(window.offsets.size());
    const auto worse = [](const Candidate& a, const Candidate& b) { return Better(a, b); };
    std::vector<Candidate> best;  // a heap, the worst on top
    for (int64_t first = 0; first < num_tokens; ++first) {
      const int64_t limit = std::min(num_tokens, first + max_answer_tokens_);
      for (int64_t last = first; last < limit; ++last) {
        const Candidate candidate{{window.offsets[first].begin, window.offsets[last].end},
                                  start[first + 1] * end[last + 1]};
        // A token that is a space alone has no text of its own.
        if (candidate.range.begin >= candidate.range.end) continue;
        if (static_cast<int32_t>(best.size()) == top_k_) {
          if (!Better(candidate, best.front())) continue;
          std::pop_heap(best.begin(), best.end(), worse);
          best.pop_back();
        }
        best.push_back(candidate);
        std::push_heap(best.begin(), best.end(), worse);
      }
    }
    candidates.insert(candidates.end(), best.begin(), best.end());
  }

  std::vector<AnswerSpan> Answers(const Question& question) const {
    const TextIndex index(question.context);
    std::vector<AnswerSpan> answers;
    for (const Candidate& candidate : question.candidates) {
      const auto [begin, end] = candidate.range;
      answers.push_back({.text = question.context.substr(begin, end - begin),
                         .score = static_cast<float>(candidate.score),
                         .span = index.Span(candidate.range)});
    }
    if (allow_no_answer_) {
      const auto null_score = static_cast<float>(question.null_score);
      const auto place = std::find_if(answers.begin(), answers.end(),
                                      [&](const auto& a) { return a.score < null_score; });
      answers.insert(place, {.score = null_score});
      if (static_cast<int32_t>(answers.size()) > top_k_) answers.pop_back();
    }
    return answers;
  }

  const int32_t top_k_;
  const int64_t max_answer_tokens_;
  const bool allow_no_answer_;
  std::vector<Question> questions_;  // of each input of the request
  std::vector<Window> windows_;      // of each input of the job
};

// The tokens of `whole` that one window reads: all of the question, and so many of the context.
Encoding WindowOf(const Encoding& whole, int64_t begin, int64_t end) {
  Encoding window;
  int64_t position = 0;
  for (int32_t i = 0; i < whole.num_tokens(); ++i) {
    if (whole.sequence_ids[i] == 1) {
      const int64_t index = position++;
      if (index < begin || index >= end) continue;
    }
    window.ids.push_back(whole.ids[i]);
    window.type_ids.push_back(whole.type_ids[i]);
    window.offsets.push_back(whole.offsets[i]);
    window.sequence_ids.push_back(whole.sequence_ids[i]);
    window.special_tokens_mask.push_back(whole.special_tokens_mask[i]);
  }
  return window;
}

// The windows of one question and its context.
absl::StatusOr<std::vector<Encoding>> PrepareWindows(const AnswerInput& input,
                                                     std::optional<int32_t> overlap_tokens,
                                                     const LoadedModel& model) {
  if (input.question.empty()) return absl::InvalidArgumentError("the question is empty");
  if (input.context.empty()) return absl::InvalidArgumentError("the context is empty");
  ASSIGN_OR_RETURN(const Encoding whole, model.tokenizer->EncodePair(input.question, input.context,
                                                                     /*add_special_tokens=*/true));
  const int64_t num_context =
      std::count(whole.sequence_ids.begin(), whole.sequence_ids.end(), int8_t{1});
  const int64_t limit = model.description.max_tokens;
  const int64_t room = limit - (whole.num_tokens() - num_context);
  if (num_context == 0) return absl::InvalidArgumentError("the context has no tokens");
  if (room < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the question takes ", whole.num_tokens() - num_context,
        " tokens with the special ones; the model takes ", limit, ", and leaves no context"));
  }
  const int64_t overlap = overlap_tokens.value_or(std::min<int64_t>(kDefaultOverlap, room / 2));
  if (num_context > room && overlap >= room) {
    return absl::InvalidArgumentError(absl::StrCat("window_overlap_tokens is ", overlap,
                                                   "; with this question a window has ", room,
                                                   " tokens of the context"));
  }
  const int64_t stride = room - std::min(overlap, room - 1);
  const int64_t num_windows =
      num_context <= room ? 1 : 1 + (num_context - room + stride - 1) / stride;
  if (num_windows > kMaxWindows) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the context has ", num_context, " tokens, which makes ", num_windows, " windows of ", room,
        " that overlap by ", overlap, "; at most ", kMaxWindows));
  }
  std::vector<Encoding> windows;
  for (int64_t i = 0; i < num_windows; ++i) {
    windows.push_back(WindowOf(whole, i * stride, std::min(num_context, i * stride + room)));
  }
  return windows;
}

// The windows as inputs of the job.
absl::StatusOr<std::vector<EncodeJob::Input>> ToJobInputs(absl::Span<const Encoding> windows,
                                                          const LoadedModel& model) {
  std::vector<EncodeJob::Input> inputs;
  for (const Encoding& window : windows) {
    ASSIGN_OR_RETURN(EncodeJob::Input input, ToJobInput(window, model));
    inputs.push_back(std::move(input));
  }
  return inputs;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(AnswerRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::AnswerCallback& done) {
  const LoadedModel& model = in_flight.model();
  auto job =
      std::make_unique<EncodeJob>(std::move(in_flight), std::move(request.control), submitted);
  RETURN_IF_ERROR(CheckHasHead(model.description, model.description.can_answer, "Answer"));
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  if (request.inputs.empty()) return FieldError("inputs", "is empty; give at least one");
  if (request.top_k < 1 || request.top_k > kMaxTopK) {
    return FieldError("top_k",
                      absl::StrCat("is ", request.top_k, "; must be in [1, ", kMaxTopK, "]"));
  }
  if (request.max_answer_tokens < 1) {
    return FieldError("max_answer_tokens",
                      absl::StrCat("is ", request.max_answer_tokens, "; at least 1"));
  }
  if (request.window_overlap_tokens.value_or(0) < 0) {
    return FieldError("window_overlap_tokens",
                      absl::StrCat("is ", *request.window_overlap_tokens, "; at least 0"));
  }
  auto reader = std::make_unique<AnswerReader>(request);
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const absl::StatusOr<std::vector<Encoding>> windows =
        PrepareWindows(request.inputs[i], request.window_overlap_tokens, model);
    absl::StatusOr<std::vector<EncodeJob::Input>> inputs =
        windows.ok() ? ToJobInputs(*windows, model) : windows.status();
    if (!inputs.ok()) {
      reader->AddBadInput(AtInput(i, inputs.status()));
      continue;
    }
    reader->AddInput(std::move(request.inputs[i].context));
    for (size_t w = 0; w < windows->size(); ++w) {
      reader->AddWindow((*windows)[w]);
      job->AddInput(std::move((*inputs)[w]));
    }
  }
  if (job->num_remaining == 0) {
    if (request.inputs.size() == 1) return reader->first_status();
    return absl::Status(reader->first_status().code(),
                        absl::StrCat("none of the ", request.inputs.size(), " inputs is good; ",
                                     reader->first_status().message()));
  }
  reader->set_done(std::move(done));
  job->reader = std::move(reader);
  job->tokenized = absl::Now();
  return job;
}

}  // namespace attendant::engine
