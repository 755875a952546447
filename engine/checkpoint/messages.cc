#include "engine/checkpoint/messages.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/tensor.h"

namespace attendant::engine {

std::string Printable(absl::string_view name) {
  constexpr size_t kMaxLength = 128;
  if (name.size() <= kMaxLength) return absl::CHexEscape(name);
  return absl::StrCat(absl::CHexEscape(name.substr(0, kMaxLength)), "... (", name.size(),
                      " bytes)");
}

absl::Status CheckShape(absl::string_view file, absl::string_view tensor,
                        absl::Span<const int64_t> found, absl::Span<const int64_t> expected) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file, ": tensor ", Printable(tensor),
                                                 " has the shape ", ShapeString(found),
                                                 "; expected ", ShapeString(expected)));
}

absl::Status NoSuchTensor(absl::string_view file, absl::string_view tensor) {
  return absl::NotFoundError(absl::StrCat(file, ": there is no tensor ", Printable(tensor)));
}

}  // namespace attendant::engine
