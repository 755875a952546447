// Rank: a cross-encoder's score of each pair of the query and a document. Nogueira and Cho,
// "Passage Re-ranking with BERT", 2019; activations as sentence-transformers' CrossEncoder has
// them.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/readers/readers.h"
#include "engine/readers/scores.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

class RankReader : public ReaderOf<RankResult> {
 public:
  RankReader(ScoreKind scores, std::optional<int32_t> top_n) : scores_(scores), top_n_(top_n) {}

  void AddDocument(absl::Status status, int32_t num_tokens, int32_t original_tokens) {
    result_.documents.push_back({.index = static_cast<int32_t>(result_.documents.size()),
                                 .status = std::move(status),
                                 .num_tokens = num_tokens,
                                 .original_tokens = original_tokens});
  }
  const absl::Status& first_status() const { return result_.documents.front().status; }

  void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext&) override {
    network.HeadLogits(HeadKind::kSequenceClassification, hidden, {0},
                       [&](int64_t, ConstMatrix logits) {
                         result_.documents[input].score = Scores({logits.row(0), 1}, scores_)[0];
                       });
  }

  void Complete(const RequestUsage& usage, const RequestTimings& timings) override {
    std::vector<RankedDocument>& documents = result_.documents;
    const auto failed = std::stable_partition(documents.begin(), documents.end(),
                                              [](const auto& d) { return d.status.ok(); });
    std::vector<float> scores(documents.size());
    for (const RankedDocument& document : documents) scores[document.index] = document.score;
    std::sort(documents.begin(), failed,
              [better = BestFirst(scores)](const auto& a, const auto& b) {
                return better(a.index, b.index);
              });
    const int64_t num_good = failed - documents.begin();
    if (top_n_.has_value() && *top_n_ < num_good)
      documents.erase(documents.begin() + *top_n_, failed);
    ReaderOf::Complete(usage, timings);
  }

 private:
  const ScoreKind scores_;
  const std::optional<int32_t> top_n_;
};

absl::StatusOr<EncodeJob::Input> PreparePair(const RankRequest& request,
                                             const std::string& document, const LoadedModel& model,
                                             int32_t& original_tokens) {
  if (document.empty()) return absl::InvalidArgumentError("the document is empty");
  ASSIGN_OR_RETURN(Encoding encoding, model.tokenizer->EncodePair(request.query, document,
                                                                  /*add_special_tokens=*/true));
  original_tokens = encoding.num_tokens();
  RETURN_IF_ERROR(TruncateSecond(request.truncation, model.description.max_tokens,
                                 "the model takes", encoding));
  return ToJobInput(std::move(encoding), model);
}

}  // namespace

absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(RankRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::RankCallback& done) {
  const LoadedModel& model = in_flight.model();
  auto job =
      std::make_unique<EncodeJob>(std::move(in_flight), std::move(request.control), submitted);
  RETURN_IF_ERROR(CheckHasHead(model.description, model.description.can_rank, "Rank"));
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  if (request.query.empty()) return FieldError("query", "is empty");
  if (request.documents.empty()) return FieldError("documents", "is empty; give at least one");
  if (request.top_n.has_value() && *request.top_n < 1) {
    return FieldError("top_n", absl::StrCat("is ", *request.top_n, "; at least 1"));
  }
  RETURN_IF_ERROR(CheckTruncation(request.truncation));
  const bool is_raw = request.raw_scores || model.raw_rank_scores;
  auto reader = std::make_unique<RankReader>(is_raw ? ScoreKind::kLogits : ScoreKind::kSigmoid,
                                             request.top_n);
  for (size_t i = 0; i < request.documents.size(); ++i) {
    int32_t original_tokens = 0;
    absl::StatusOr<EncodeJob::Input> input =
        PreparePair(request, request.documents[i], model, original_tokens);
    absl::Status status = input.status();
    if (!status.ok()) {
      status = absl::Status(status.code(), absl::StrCat("documents[", i, "]: ", status.message()));
    }
    job->AddInput(std::move(input).value_or(EncodeJob::Input()));
    reader->AddDocument(std::move(status), static_cast<int32_t>(job->inputs.back().ids.size()),
                        original_tokens);
  }
  RETURN_IF_ERROR(job->CheckAnyGood(reader->first_status()));
  reader->set_done(std::move(done));
  job->reader = std::move(reader);
  job->tokenized = absl::Now();
  return job;
}

}  // namespace attendant::engine
