#include "engine/encode_runner.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace attendant::engine {
namespace {

// Moves on to the job's next good input.
void SkipBadInputs(EncodeJob& job) {
  while (job.next_input < job.inputs.size() && job.inputs[job.next_input].ids.empty()) {
    ++job.next_input;
  }
}

}  // namespace

void EncodeRunner::Add(std::unique_ptr<EncodeJob> job) {
  SkipBadInputs(*job);
  num_tokens_waiting_ += job->num_tokens;
  turns_.push_back(job.get());
  jobs_.push_back(std::move(job));
}

void EncodeRunner::EndOverdue(absl::Time now) {
  for (size_t i = 0; i < jobs_.size();) {
    const absl::Status status = jobs_[i]->control->Check(now);
    if (status.ok()) {
      ++i;
    } else {
      EncodeJob::Fail(Take(*jobs_[i]), status);
    }
  }
}

void EncodeRunner::EndAll(const absl::Status& status) {
  while (!jobs_.empty()) EncodeJob::Fail(Take(*jobs_.front()), status);
}

absl::Time EncodeRunner::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& job : jobs_) next = std::min(next, job->control->deadline);
  return next;
}

int64_t EncodeRunner::num_running() const {
  return std::count_if(jobs_.begin(), jobs_.end(),
                       [](const auto& job) { return job->started != absl::InfiniteFuture(); });
}

bool EncodeRunner::Step(StepReport& report) {
  if (turns_.empty()) return false;
  Pack();
  const absl::Time start = absl::Now();
  for (const Part& part : parts_) part.job->started = std::min(part.job->started, start);
  try {
    Compute();
  } catch (const std::exception& error) {
    LOG(ERROR) << "a step of " << batch_.num_tokens() << " tokens failed: " << error.what();
    FindStepJobs();
    for (EncodeJob* job : step_jobs_) {
      EncodeJob::Fail(Take(*job),
                      absl::InternalError("the step that computed this request failed"));
    }
  }
  const absl::Time end = absl::Now();
  report.phase = "encode";
  report.duration = end - start;
  report.num_tokens = batch_.num_tokens();
  report.num_sequences = static_cast<int32_t>(batch_.sequences.size());
  FindStepJobs();
  for (EncodeJob* job : step_jobs_) {
    job->compute += end - start;
    if (job->num_remaining == 0) EncodeJob::Finish(Take(*job), end);
  }
  return true;
}

// Takes inputs, a request's turn after the other, as long as they fit.
void EncodeRunner::Pack() {
  batch_.Clear();
  parts_.clear();
  bool has_types = false;
  size_t num_turns = 0;
  for (; num_turns < turns_.size(); ++num_turns) {
    EncodeJob& job = *turns_[num_turns];
    const EncodeJob::Input& input = job.inputs[job.next_input];
    const auto num_tokens = static_cast<int32_t>(input.ids.size());
    const int32_t first_row = batch_.num_tokens();
    if (first_row > 0 && first_row + num_tokens > max_batch_tokens_) break;

    parts_.push_back({&job, job.next_input, first_row, num_tokens});
    batch_.sequences.push_back(
        {.query_start = first_row, .num_queries = num_tokens, .patches = input.patches});
    batch_.token_ids.insert(batch_.token_ids.end(), input.ids.begin(), input.ids.end());
    batch_.type_ids.insert(batch_.type_ids.end(), input.type_ids.begin(), input.type_ids.end());
    for (int32_t position = 0; position < num_tokens; ++position) {
      batch_.positions.push_back(position);
    }
    has_types |= std::any_of(input.type_ids.begin(), input.type_ids.end(),
                             [](int32_t type) { return type != 0; });
    num_tokens_waiting_ -= num_tokens;

    ++job.next_input;
    SkipBadInputs(job);
    if (job.next_input < job.inputs.size()) turns_.push_back(&job);
  }
  turns_.erase(turns_.begin(), turns_.begin() + static_cast<ptrdiff_t>(num_turns));
  if (!has_types) batch_.type_ids.clear();
}

void EncodeRunner::Compute() {
  const auto rows = [](const Part& part, ConstMatrix hidden) {
    return hidden.Rows(part.first_row, part.num_rows);
  };
  const ConstMatrix hidden = network_.Forward(batch_, [&](int32_t layer, ConstMatrix states) {
    for (const Part& part : parts_) {
      part.job->reader->ReadLayer(part.input, layer, rows(part, states));
    }
  });
  for (const Part& part : parts_) {
    part.job->reader->Read(part.input, rows(part, hidden), network_, context_);
    part.job->inputs[part.input].patches = std::vector<float>();  // frees them
    --part.job->num_remaining;
  }
}

// The requests that the step computes for, each once; those that it ended are gone.
void EncodeRunner::FindStepJobs() {
  step_jobs_.clear();
  for (const auto& job : jobs_) {
    if (std::any_of(parts_.begin(), parts_.end(),
                    [&](const Part& part) { return part.job == job.get(); })) {
      step_jobs_.push_back(job.get());
    }
  }
}

std::unique_ptr<EncodeJob> EncodeRunner::Take(EncodeJob& job) {
  for (size_t i = job.next_input; i < job.inputs.size(); ++i) {
    num_tokens_waiting_ -= static_cast<int64_t>(job.inputs[i].ids.size());
  }
  std::erase(turns_, &job);
  const auto it = std::find_if(jobs_.begin(), jobs_.end(),
                               [&](const auto& other) { return other.get() == &job; });
  std::unique_ptr<EncodeJob> taken = std::move(*it);
  jobs_.erase(it);
  return taken;
}

}  // namespace attendant::engine
