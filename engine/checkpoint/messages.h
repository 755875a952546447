#ifndef ATTENDANT_ENGINE_CHECKPOINT_MESSAGES_H_
#define ATTENDANT_ENGINE_CHECKPOINT_MESSAGES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attendant::engine {

// `name`, which came out of a foreign file, fit for a message: escaped, and cut if it is very long.
std::string Printable(absl::string_view name);

// INVALID_ARGUMENT, naming `file` and `tensor`, unless `found` == `expected`.
absl::Status CheckShape(absl::string_view file, absl::string_view tensor,
                        absl::Span<const int64_t> found, absl::Span<const int64_t> expected);

// NOT_FOUND.
absl::Status NoSuchTensor(absl::string_view file, absl::string_view tensor);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_CHECKPOINT_MESSAGES_H_
