#ifndef ATTENDANT_ENGINE_ENCODE_JOB_H_
#define ATTENDANT_ENGINE_ENCODE_JOB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "engine/request.h"

namespace attendant::engine {

// One Encode on its way: its inputs as tokens, and as much of its result as is computed.
struct EncodeJob {
  explicit EncodeJob(InFlight in_flight) : in_flight(std::move(in_flight)) {}

  // Answer the caller, of a job that is freed before: who is answered finds it gone.
  static void Fail(std::unique_ptr<EncodeJob> job, absl::Status status);
  static void Finish(std::unique_ptr<EncodeJob> job, absl::Time now);

  // What the request asks for, checked, with the model's defaults filled in.
  InFlight in_flight;
  std::shared_ptr<RequestControl> control;
  PoolingKind pooling = PoolingKind::kMean;
  bool normalize = false;
  int32_t dimensions = 0;
  DataType output_dtype = DataType::kFloat32;
  std::vector<int32_t> hidden_layers;  // from 0

  struct Input {
    std::vector<int32_t> ids;       // empty if the input is bad
    std::vector<int32_t> type_ids;  // as many
    int64_t first_hidden_row = 0;   // of each of the hidden states
  };
  std::vector<Input> inputs;
  size_t next_input = 0;      // the first that no step has taken
  int64_t num_remaining = 0;  // good inputs that are not computed

  std::vector<float> embeddings;                  // [rows, dimensions]
  std::vector<std::vector<float>> hidden_states;  // of each of hidden_layers, [tokens, hidden_size]
  EncodeResult result;

  absl::Time submitted;
  absl::Time tokenized;
  absl::Time started = absl::InfiniteFuture();  // its first step

  Engine::EncodeCallback done;
};

// One input's tokens, cut as asked, with `prompt` before its text. `original_tokens` is set as soon
// as it is known: those before the cut. INVALID_ARGUMENT for an empty one, one that is too long, or
// an id or a segment that the model does not have; FAILED_PRECONDITION for text without tokenizer.
absl::StatusOr<EncodeJob::Input> PrepareInput(EncodeInput& input, const std::string& prompt,
                                              const Truncation& truncation,
                                              const LoadedModel& model, int32_t& original_tokens);

// Checks the request and turns its texts into ids. An input that is bad by itself gets its own
// status; INVALID_ARGUMENT if all are, or the request as a whole is. On success the job owns
// `done`.
absl::StatusOr<std::unique_ptr<EncodeJob>> PrepareEncode(EncodeRequest request, InFlight in_flight,
                                                         absl::Time submitted);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ENCODE_JOB_H_
