#ifndef ATTENDANT_ENGINE_ATTENTION_MAPS_H_
#define ATTENDANT_ENGINE_ATTENTION_MAPS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/attend/model_attend_job.h"
#include "engine/loaded_model.h"
#include "engine/request.h"

namespace attendant::engine {

// Checks a request for the maps inside `model` and turns its texts into ids; any thread.
//   INVALID_ARGUMENT     a layer, a head or a range outside the model or the input, an input that
//   is
//                        bad or too long, or more than `max_bytes`; names field, value and limit
//   FAILED_PRECONDITION  maps of a kind that the model does not have; says which it has
absl::StatusOr<std::unique_ptr<ModelAttendJob>> PrepareAttentionMaps(
    AttendModel request, const LoadedModel& model, std::shared_ptr<RequestControl> control,
    int64_t max_bytes);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_ATTENTION_MAPS_H_
