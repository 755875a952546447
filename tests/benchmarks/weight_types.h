#ifndef ATTENDANT_TESTS_BENCHMARKS_WEIGHT_TYPES_H_
#define ATTENDANT_TESTS_BENCHMARKS_WEIGHT_TYPES_H_

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/data_type.h"
#include "tests/benchmarks/measurement.h"

namespace attendant::benchmarks {

// What weights may be kept in, as --model spells it.
inline engine::DataType ParseWeightType(absl::string_view text) {
  using engine::DataType;
  constexpr std::pair<absl::string_view, DataType> kTypes[] = {{"f32", DataType::kFloat32},
                                                               {"bf16", DataType::kBFloat16},
                                                               {"int8", DataType::kInt8},
                                                               {"int4", DataType::kInt4}};
  for (const auto& [name, dtype] : kTypes) {
    if (text == name) return dtype;
  }
  Exit(kNotServed, absl::StrCat("\"", text, "\" is not f32, bf16, int8 or int4"));
}

}  // namespace attendant::benchmarks

#endif  // ATTENDANT_TESTS_BENCHMARKS_WEIGHT_TYPES_H_
