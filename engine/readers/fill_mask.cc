// FillMask: the tokens that a masked language model expects where the text has gaps. Scores are as
// transformers' fill-mask pipeline has them: probabilities among the whole vocabulary, even where
// targets choose the candidates, and each mask's for itself.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/softmax.h"
#include "engine/readers/readers.h"
#include "engine/readers/scores.h"
#include "engine/truncation.h"

namespace attendant::engine {
namespace {

constexpr int32_t kMaxTopK = 1000;

// What a candidate takes in an answer, about: the struct, and a short text.
constexpr int64_t kCandidateBytes = sizeof(MaskCandidate) + 16;

// The ids of the targets, each once and in order.
absl::StatusOr<std::vector<int32_t>> ResolveTargets(absl::Span<const std::string> targets,
                                                    const LoadedModel& model) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < targets.size(); ++i) {
    std::optional<int32_t> id = model.tokenizer->TokenToId(targets[i]);
    if (!id.has_value()) {
      ASSIGN_OR_RETURN(const Encoding encoding,
                       model.tokenizer->Encode(targets[i], /*add_special_tokens=*/false));
      if (encoding.num_tokens() != 1) {
        return FieldError(
            absl::StrCat("targets[", i, "]"),
            absl::StrCat("is ", encoding.num_tokens(), " tokens of this model; a target is one"));
      }
      id = encoding.ids[0];
    }
    if (*id < 0 || *id >= model.description.vocab_size) {
      return FieldError(absl::StrCat("targets[", i, "]"),
                        absl::StrCat("has id ", *id, "; the vocabulary has ",
                                     model.description.vocab_size, " tokens"));
    }
    if (!absl::c_linear_search(ids, *id)) ids.push_back(*id);
  }
  return ids;
}

class MaskReader : public ReaderOf<FillMaskResult> {
 public:
  // No targets: all of the vocabulary.
  MaskReader(const LoadedModel& model, int32_t top_k, std::vector<int32_t> targets)
      : model_(model), targets_(std::move(targets)) {
    const auto num_targets = static_cast<int32_t>(targets_.size());
    top_k_ = std::min(top_k, targets_.empty() ? model.description.vocab_size : num_targets);
  }

  int64_t result_bytes() const { return num_masks_ * top_k_ * kCandidateBytes; }
  const absl::Status& first_status() const { return result_.inputs.front().status; }

  void AddInput(absl::Status status, const EncodeJob::Input& input, int32_t original_tokens) {
    FilledInput& filled = result_.inputs.emplace_back();
    filled.status = std::move(status);
    filled.original_tokens = original_tokens;
    if (!filled.status.ok()) return;
    filled.num_tokens = static_cast<int32_t>(input.ids.size());
    for (int32_t i = 0; i < filled.num_tokens; ++i) {
      if (input.ids[i] == *model_.mask_token_id) filled.masks.push_back({.token_index = i});
    }
    num_masks_ += static_cast<int64_t>(filled.masks.size());
  }

  void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext&) override {
    std::vector<FilledMask>& masks = result_.inputs[input].masks;
    std::vector<int32_t> rows;
    for (const FilledMask& mask : masks) rows.push_back(mask.token_index);
    // Here and not in the request: as long as the vocabulary, for the time of one input.
    std::vector<int32_t> candidates = targets_;
    if (targets_.empty()) {
      candidates.resize(model_.description.vocab_size);
      std::iota(candidates.begin(), candidates.end(), 0);
    }
    network.HeadLogits(
        HeadKind::kMaskedLanguageModel, hidden, rows, [&](int64_t first, ConstMatrix logits) {
          for (int64_t i = 0; i < logits.rows; ++i) {
            Fill(absl::MakeConstSpan(logits.row(i), logits.cols), candidates, masks[first + i]);
          }
        });
  }

 private:
  // `candidates` come in any order, and are left in another.
  void Fill(absl::Span<const float> logits, std::vector<int32_t>& candidates, FilledMask& mask) {
    const BestFirst better(logits);
    std::nth_element(candidates.begin(), candidates.begin() + (top_k_ - 1), candidates.end(),
                     better);
    std::sort(candidates.begin(), candidates.begin() + top_k_, better);
    const float log_sum = LogSumExp(logits);
    mask.candidates.reserve(top_k_);
    for (int32_t i = 0; i < top_k_; ++i) {
      const int32_t id = candidates[i];
      mask.candidates.push_back(
          {.id = id, .token = TextOf(id), .score = std::exp(logits[id] - log_sum)});
    }
  }

  const std::string& TextOf(int32_t id) {
    const auto [it, is_new] = texts_.try_emplace(id);
    if (is_new) {
      it->second =
          model_.tokenizer->Decode({id}, /*skip_special_tokens=*/false).value_or(std::string());
    }
    return it->second;
  }

  const LoadedModel& model_;  // in flight while the job is
  const std::vector<int32_t> targets_;
  int32_t top_k_ = 0;
  int64_t num_masks_ = 0;
  absl::flat_hash_map<int32_t, std::string> texts_;
};

absl::StatusOr<EncodeJob::Input> PrepareInput(FillMaskInput& input, const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens) {
  EncodeInput any = std::visit([](auto& form) { return EncodeInput(std::move(form)); }, input);
  ASSIGN_OR_RETURN(Encoding encoding, TokenizeInput(any, /*prompt=*/"", model));
  original_tokens = encoding.num_tokens();
  const bool has_mask = absl::c_linear_search(encoding.ids, *model.mask_token_id);
  RETURN_IF_ERROR(Truncate(truncation, model.description.max_tokens, "the model takes", encoding));
  if (!absl::c_linear_search(encoding.ids, *model.mask_token_id)) {
    return absl::InvalidArgumentError(absl::StrCat(
        has_mask ? "truncation left no mask token" : "has no mask token", "; this model's is ",
        model.tokenizer->IdToToken(*model.mask_token_id).value_or(""), ", id ",
        *model.mask_token_id));
  }
  return ToJobInput(std::move(encoding), model);
}

}  // namespace

absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(FillMaskRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::FillMaskCallback& done) {
  const LoadedModel& model = in_flight.model();
  auto job =
      std::make_unique<EncodeJob>(std::move(in_flight), std::move(request.control), submitted);
  RETURN_IF_ERROR(CheckHasHead(model.description, model.description.can_fill_mask, "FillMask"));
  RETURN_IF_ERROR(CheckHasTokenizer(model));
  if (!model.mask_token_id.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the tokenizer of model \"", model.description.name, "\" has no mask token"));
  }
  if (request.inputs.empty()) return FieldError("inputs", "is empty; give at least one");
  if (request.top_k < 1 || request.top_k > kMaxTopK) {
    return FieldError("top_k",
                      absl::StrCat("is ", request.top_k, "; must be in [1, ", kMaxTopK, "]"));
  }
  RETURN_IF_ERROR(CheckTruncation(request.truncation));
  ASSIGN_OR_RETURN(std::vector<int32_t> targets, ResolveTargets(request.targets, model));
  auto reader = std::make_unique<MaskReader>(model, request.top_k, std::move(targets));

  for (size_t i = 0; i < request.inputs.size(); ++i) {
    int32_t original_tokens = 0;
    absl::StatusOr<EncodeJob::Input> input =
        PrepareInput(request.inputs[i], request.truncation, model, original_tokens);
    const absl::Status status = AtInput(i, input.status());
    job->AddInput(std::move(input).value_or(EncodeJob::Input()));
    reader->AddInput(status, job->inputs.back(), original_tokens);
  }
  RETURN_IF_ERROR(job->CheckAnyGood(reader->first_status()));
  RETURN_IF_ERROR(CheckResultBytes("candidates", reader->result_bytes(), model));
  reader->set_done(std::move(done));
  job->reader = std::move(reader);
  job->tokenized = absl::Now();
  return job;
}

}  // namespace attendant::engine
