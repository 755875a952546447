#ifndef ATTENDANT_ENGINE_READERS_READERS_H_
#define ATTENDANT_ENGINE_READERS_READERS_H_

// From a request to the job that encodes its inputs and reads the answer off their hidden states:
// one file of this folder for each kind of request.

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/encode_job.h"
#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "engine/request.h"

namespace attendant::engine {

// Each checks a request and turns its texts into ids, and on success takes `done`, which the job
// then calls. An input that is bad by itself gets its own status; INVALID_ARGUMENT if all are, or
// the request as a whole is; FAILED_PRECONDITION if the model cannot do it. request.control is set.
absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(EncodeRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::EncodeCallback& done);
absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(FillMaskRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::FillMaskCallback& done);
absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(ClassifyRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::ClassifyCallback& done);
absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(RankRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::RankCallback& done);
absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(AnswerRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::AnswerCallback& done);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_READERS_READERS_H_
