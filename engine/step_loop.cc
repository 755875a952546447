#include "engine/step_loop.h"

#include <algorithm>
#include <exception>

#include "absl/algorithm/container.h"
#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/time/clock.h"

namespace attendant::engine {

void StepLoop::AddModel(std::unique_ptr<ModelRunner> model) { models_.push_back(std::move(model)); }

void StepLoop::RetireModel(const LoadedModel& model, absl::AnyInvocable<void() &&> done) {
  retiring_.push_back({&model, std::move(done)});
}

ModelRunner& StepLoop::RunnerOf(const LoadedModel& model) {
  const auto it =
      absl::c_find_if(models_, [&](const auto& runner) { return &runner->model() == &model; });
  CHECK(it != models_.end()) << "a request of model " << model.description.name
                             << ", which is gone";
  return **it;
}

void StepLoop::AddEncode(std::unique_ptr<EncodeJob> job) {
  ModelRunner& runner = RunnerOf(job->in_flight.model());
  runner.encode()->Add(std::move(job));
}

void StepLoop::AddGenerate(std::unique_ptr<GenerateJob> job) {
  ModelRunner& runner = RunnerOf(job->in_flight.model());
  runner.generate()->Add(std::move(job));
}

bool StepLoop::Round() {
  const absl::Time now = absl::Now();
  for (const auto& model : models_) model->EndOverdue(now);
  EndOverdueAttends(now);
  FreeRetired();

  bool computed = false;
  for (const auto& model : models_) {
    computed |= model->Step([this](const StepReport& report) { Report(report); });
    model->PublishStats();
  }
  computed |= StepAttend();
  return computed;
}

absl::Time StepLoop::next_deadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& model : models_) next = std::min(next, model->next_deadline());
  for (const auto& attending : attending_)
    next = std::min(next, attending->job->control()->deadline);
  return next;
}

void StepLoop::EndAll(const absl::Status& status) {
  for (const auto& model : models_) model->EndAll(status);
  while (!attending_.empty()) EndAttend(0, status);
  FreeRetired();
}

int64_t StepLoop::workspace_bytes() const {
  int64_t bytes = 0;
  for (const auto& model : models_) bytes += model->workspace_bytes();
  return bytes;
}

int64_t StepLoop::num_reference_kernels() const {
  int64_t kernels = 0;
  for (const auto& model : models_) kernels += model->num_reference_kernels();
  return kernels;
}

void StepLoop::Report(const StepReport& report) {
  ++num_steps_;
  if (on_step_ != nullptr) on_step_(report);
}

void StepLoop::EndOverdueAttends(absl::Time now) {
  for (size_t i = 0; i < attending_.size();) {
    const absl::Status status = attending_[i]->job->control()->Check(now);
    if (status.ok()) {
      ++i;
    } else {
      EndAttend(i, status);
    }
  }
}

// A step of the first Attend whose reader has room; the others are next.
bool StepLoop::StepAttend() {
  const auto it = absl::c_find_if(attending_, [](const auto& a) { return a->sink->Ready(); });
  if (it == attending_.end()) return false;
  std::rotate(it, it + 1, attending_.end());
  Attending& attending = *attending_.back();

  const absl::Time start = absl::Now();
  if (attending.started == absl::InfiniteFuture()) {
    attending.started = start;
    attending.sink->OnStarted(attending.job->started());
  }
  absl::Status status;
  if (!attending.job->done()) {
    absl::StatusOr<std::optional<AttendBlock>> block;
    try {
      block = attending.job->Next(context_);
    } catch (const std::exception& error) {
      LOG(ERROR) << "a step of an Attend failed: " << error.what();
      block = absl::InternalError("the step that computed this request failed");
    }
    attending.compute += absl::Now() - start;
    status = block.status();
    StepReport report{.phase = "attend", .duration = absl::Now() - start, .num_sequences = 1};
    if (attending.in_flight.has_value()) {
      report.model = attending.in_flight->model().description.name;
    }
    Report(report);
    if (block.ok() && block->has_value()) attending.sink->OnBlock(**std::move(block));
  }
  if (!status.ok() || attending.job->done()) EndAttend(attending_.size() - 1, status);
  return true;
}

void StepLoop::EndAttend(size_t index, const absl::Status& status) {
  const std::unique_ptr<Attending> ended = std::move(attending_[index]);
  attending_.erase(attending_.begin() + static_cast<ptrdiff_t>(index));
  const absl::Time now = absl::Now();
  const absl::Time started = std::min(ended->started, now);
  RequestTimings timings{.queue = started - ended->prepared,
                         .tokenize = ended->prepared - ended->submitted,
                         .compute = ended->compute,
                         .total = now - ended->submitted};
  // Who is answered finds its request gone.
  ended->job.reset();
  ended->in_flight.reset();
  ended->sink->OnDone(status, timings);
}

void StepLoop::FreeRetired() {
  for (size_t i = 0; i < retiring_.size();) {
    if (retiring_[i].model->num_in_flight.load() > 0) {
      ++i;
      continue;
    }
    Retiring retired = std::move(retiring_[i]);
    retiring_.erase(retiring_.begin() + static_cast<ptrdiff_t>(i));
    std::erase_if(models_, [&](const auto& runner) { return &runner->model() == retired.model; });
    std::move(retired.done)();
  }
}

}  // namespace attendant::engine
