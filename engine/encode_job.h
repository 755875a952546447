#ifndef ATTENDANT_ENGINE_ENCODE_JOB_H_
#define ATTENDANT_ENGINE_ENCODE_JOB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/loaded_model.h"
#include "engine/request.h"
#include "engine/result_reader.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// One request on its way through an encoder: its inputs as tokens, and the reader that makes the
// answer of them.
struct EncodeJob {
  EncodeJob(InFlight in_flight, std::shared_ptr<RequestControl> control, absl::Time submitted)
      : in_flight(std::move(in_flight)), control(std::move(control)), submitted(submitted) {}

  // Answer the caller, of a job that is freed before: who is answered finds it gone.
  static void Fail(std::unique_ptr<EncodeJob> job, absl::Status status);
  static void Finish(std::unique_ptr<EncodeJob> job, absl::Time now);

  InFlight in_flight;
  std::shared_ptr<RequestControl> control;

  struct Input {
    std::vector<int32_t> ids;       // empty if the input is bad
    std::vector<int32_t> type_ids;  // as many
    std::vector<float> patches;     // of an image, see BatchSequence; its ids are those of a Batch
  };
  std::vector<Input> inputs;
  size_t next_input = 0;      // the first that no step has taken
  int64_t num_remaining = 0;  // good inputs that are not computed
  int64_t num_tokens = 0;     // of all good inputs

  // Appends an input; without ids a bad one.
  void AddInput(Input input);

  // OK if some input is good; else what is wrong with the only one, or INVALID_ARGUMENT that none
  // is good, and what is wrong with the first.
  absl::Status CheckAnyGood(const absl::Status& first) const;

  std::unique_ptr<ResultReader> reader;

  absl::Time submitted;
  absl::Time tokenized;
  absl::Time started = absl::InfiniteFuture();  // its first step
  absl::Duration compute;
};

// ---------------------------------------------------------------------------------------------------------------------
// Parts of preparing a job, which readers/ share.

// The tokens of an input; text comes behind `prompt` and gets special tokens, ids are taken as they
// are. INVALID_ARGUMENT for an empty input, an image, any input of a model that reads images, or
// ids outside the vocabulary; FAILED_PRECONDITION for text without a tokenizer.
absl::StatusOr<Encoding> TokenizeInput(EncodeInput& input, absl::string_view prompt,
                                       const LoadedModel& model);

// An image, as the model takes it: never cut. INVALID_ARGUMENT if the model reads no images, for a
// truncation to fewer tokens than an image has, and as ImageProcessor::Process.
absl::StatusOr<EncodeJob::Input> PrepareImage(const ImageFile& image, const Truncation& truncation,
                                              const LoadedModel& model);

// OK, or INVALID_ARGUMENT: the patches of all images among `inputs` would take more memory than the
// results of a request may.
absl::Status CheckImageBytes(absl::Span<const EncodeInput> inputs, const LoadedModel& model);

// An encoding that is cut already, as the model takes it.
absl::StatusOr<EncodeJob::Input> ToJobInput(Encoding encoding, const LoadedModel& model);

// One input's tokens, cut as asked, with `prompt` before its text. `original_tokens` is set as soon
// as it is known: those before the cut. INVALID_ARGUMENT for an empty one, one that is too long, or
// an id or a segment that the model does not have; FAILED_PRECONDITION for text without tokenizer.
absl::StatusOr<EncodeJob::Input> PrepareInput(EncodeInput& input, const std::string& prompt,
                                              const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens);

// INVALID_ARGUMENT for a max_tokens below 1.
absl::Status CheckTruncation(const Truncation& truncation);

// "inputs[3]: ..."; OK stays.
absl::Status AtInput(size_t index, const absl::Status& status);

// OK, or INVALID_ARGUMENT: `what` of this request take `num_bytes`, which the server does not
// allow.
absl::Status CheckResultBytes(absl::string_view what, int64_t num_bytes, const LoadedModel& model);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ENCODE_JOB_H_
