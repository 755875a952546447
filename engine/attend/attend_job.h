#ifndef ATTENDANT_ENGINE_ATTEND_ATTEND_JOB_H_
#define ATTENDANT_ENGINE_ATTEND_ATTEND_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/kernels/kernel_context.h"
#include "engine/request.h"

namespace attendant::engine {

// The most data of one AttendBlock: with what else is in its message, 1 MiB.
inline constexpr int64_t kMaxAttendBlockBytes = (int64_t{1} << 20) - 1024;

// An Attend on its way, a step at a time, so that results never exist as a whole and other work
// runs in between. Made on any thread; its steps are for the thread that owns the context.
class AttendJob {
 public:
  virtual ~AttendJob() = default;

  const AttendStarted& started() const { return started_; }
  const std::shared_ptr<RequestControl>& control() const { return control_; }

  // Whether Next() has given everything.
  virtual bool done() const = 0;

  // Computes one step, some tens of milliseconds at most, and gives the next block if that made
  // one. Not when done(). INTERNAL if oneDNN cannot make a product.
  virtual absl::StatusOr<std::optional<AttendBlock>> Next(KernelContext& context) = 0;

 protected:
  explicit AttendJob(std::shared_ptr<RequestControl> control) : control_(std::move(control)) {}

  AttendStarted started_;

 private:
  const std::shared_ptr<RequestControl> control_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ATTEND_ATTEND_JOB_H_
