#ifndef ATTENDANT_ENGINE_RESULT_READER_H_
#define ATTENDANT_ENGINE_RESULT_READER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"
#include "engine/network.h"
#include "engine/request.h"

namespace attendant::engine {

// What becomes of the hidden states of a request's inputs: vectors, or what a head says of them. It
// holds the result as far as it is computed, and answers the caller. On the engine's thread.
class ResultReader {
 public:
  virtual ~ResultReader() = default;

  // The states of `input` after `layer`, [num_tokens, hidden_size]; 0: the embeddings. Within
  // Forward.
  virtual void ReadLayer(size_t /*input*/, int32_t /*layer*/, ConstMatrix /*hidden*/) {}

  // The states of `input` that Forward returned, once for each good input.
  virtual void Read(size_t input, ConstMatrix hidden, Network& network, KernelContext& context) = 0;

  // Every input was read.
  virtual void Complete(const RequestUsage& usage, const RequestTimings& timings) = 0;

  // The last call, once: with what was completed, or an error.
  virtual void Answer(absl::Status status) = 0;
};

// One whose answer is a Result.
template <typename Result>
class ReaderOf : public ResultReader {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<Result>) &&>;

  void set_done(Callback done) { done_ = std::move(done); }

  void Complete(const RequestUsage& usage, const RequestTimings& timings) override {
    result_.usage = usage;
    result_.timings = timings;
  }
  void Answer(absl::Status status) final {
    if (status.ok()) {
      std::move(done_)(std::move(result_));
    } else {
      std::move(done_)(std::move(status));
    }
  }

 protected:
  Result result_;

 private:
  Callback done_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_RESULT_READER_H_
