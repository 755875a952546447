#ifndef ATTENDANT_ENGINE_BASE_STATUS_MACROS_H_
#define ATTENDANT_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function if `expr`, an absl::Status, is not OK.
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

#define ATTENDANT_CONCAT_INNER_(a, b) a##b
#define ATTENDANT_CONCAT_(a, b) ATTENDANT_CONCAT_INNER_(a, b)
#define ATTENDANT_ASSIGN_OR_RETURN_(result, lhs, expr) \
  auto result = (expr);                                \
  if (!result.ok()) return std::move(result).status(); \
  lhs = *std::move(result)

// Evaluates `expr`, an absl::StatusOr; assigns its value to `lhs`, which may be a declaration, or
// returns its error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ATTENDANT_ASSIGN_OR_RETURN_(ATTENDANT_CONCAT_(status_or_, __LINE__), lhs, expr)

#endif  // ATTENDANT_ENGINE_BASE_STATUS_MACROS_H_
