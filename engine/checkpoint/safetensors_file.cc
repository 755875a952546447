#include "engine/checkpoint/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/storage_format.h"
#include "simdjson.h"

namespace attendant::engine {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxHeaderDepth = 8;              // of which the format uses 3
constexpr absl::string_view kMetadataKey = "__metadata__";

absl::Status Malformed(absl::string_view file, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": malformed safetensors header: ", what));
}

absl::Status MalformedTensor(absl::string_view file, absl::string_view tensor,
                             absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": tensor ", Printable(tensor), ": ", what));
}

// Debian's Abseil has a string_view of its own.
absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

struct TensorEntry {
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // from the end of the header
  uint64_t end = 0;
};

// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
absl::StatusOr<TensorEntry> ParseEntry(absl::string_view file, absl::string_view tensor,
                                       simdjson::dom::element json) {
  const auto malformed = [&](absl::string_view what) {
    return MalformedTensor(file, tensor, what);
  };
  simdjson::dom::object object;
  if (json.get(object) != simdjson::SUCCESS) return malformed("expected a JSON object");
  TensorEntry entry;
  bool has_dtype = false, has_shape = false, has_offsets = false;
  for (const simdjson::dom::key_value_pair field : object) {
    if (field.key == "dtype") {
      if (std::exchange(has_dtype, true)) return malformed("\"dtype\" is given twice");
      std::string_view dtype;
      if (field.value.get(dtype) != simdjson::SUCCESS) {
        return malformed("\"dtype\" is not a string");
      }
      entry.dtype = dtype;
    } else if (field.key == "shape") {
      if (std::exchange(has_shape, true)) return malformed("\"shape\" is given twice");
      simdjson::dom::array extents;
      if (field.value.get(extents) != simdjson::SUCCESS) {
        return malformed("\"shape\" is not an array");
      }
      for (const simdjson::dom::element extent : extents) {
        int64_t value;
        if (extent.get(value) != simdjson::SUCCESS || value < 0) {
          return malformed("\"shape\" holds something that is not a size");
        }
        entry.shape.push_back(value);
      }
    } else if (field.key == "data_offsets") {
      if (std::exchange(has_offsets, true)) return malformed("\"data_offsets\" is given twice");
      simdjson::dom::array offsets;
      if (field.value.get(offsets) != simdjson::SUCCESS || offsets.size() != 2 ||
          offsets.at(0).get(entry.begin) != simdjson::SUCCESS ||
          offsets.at(1).get(entry.end) != simdjson::SUCCESS) {
        return malformed("\"data_offsets\" is not a pair of offsets");
      }
    }
  }
  if (!has_dtype) return malformed("\"dtype\" is missing");
  if (!has_shape) return malformed("\"shape\" is missing");
  if (!has_offsets) return malformed("\"data_offsets\" is missing");
  return entry;
}

// That the offsets are inside the data and, where the dtype is known, leave room for exactly the
// shape.
absl::Status CheckEntry(absl::string_view file, absl::string_view tensor, const TensorEntry& entry,
                        uint64_t data_bytes) {
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return MalformedTensor(
        file, tensor,
        absl::StrCat("data_offsets [", entry.begin, ", ", entry.end, "] do not lie within the ",
                     data_bytes, " bytes of data in the file"));
  }
  const int64_t num_elements = NumElements(entry.shape);
  if (num_elements < 0) {
    return MalformedTensor(file, tensor,
                           absl::StrCat("the shape ", ShapeString(entry.shape), " is too large"));
  }
  const uint64_t num_bytes = entry.end - entry.begin;
  const StorageFormat* format = FindSafetensorsFormat(entry.dtype);
  if (format == nullptr) {
    // Of an unknown dtype only this is sure: a value takes a bit or more.
    if (static_cast<uint64_t>(num_elements) / 8 <= num_bytes) return absl::OkStatus();
    return MalformedTensor(
        file, tensor,
        absl::StrCat("data_offsets [", entry.begin, ", ", entry.end, "] span ", num_bytes,
                     " bytes, too few for ", num_elements, " values of any dtype"));
  }
  const uint64_t element_bytes = static_cast<uint64_t>(format->block_bytes);
  if (num_bytes % element_bytes != 0 ||
      num_bytes / element_bytes != static_cast<uint64_t>(num_elements)) {
    return MalformedTensor(
        file, tensor,
        absl::StrCat("data_offsets [", entry.begin, ", ", entry.end, "] span ", num_bytes,
                     " bytes; ", entry.dtype, " ", ShapeString(entry.shape), " takes ",
                     num_elements, " x ", element_bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckMetadata(absl::string_view file, simdjson::dom::element json) {
  simdjson::dom::object object;
  if (json.get(object) != simdjson::SUCCESS) {
    return Malformed(file, "\"__metadata__\" is not an object");
  }
  for (const simdjson::dom::key_value_pair field : object) {
    if (!field.value.is_string()) {
      return Malformed(
          file, absl::StrCat("\"__metadata__\": ", Printable(View(field.key)), " is not a string"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  SafetensorsFile file(path, mapping.bytes());
  file.mapping_ = std::move(mapping);
  RETURN_IF_ERROR(file.ParseHeader());
  return file;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::string name,
                                                       absl::Span<const std::byte> bytes) {
  SafetensorsFile file(std::move(name), bytes);
  RETURN_IF_ERROR(file.ParseHeader());
  return file;
}

std::string SafetensorsFile::Fingerprint() const {
  return engine::Fingerprint(bytes_, header_bytes_, mapping_ ? &*mapping_ : nullptr);
}

absl::Status SafetensorsFile::ParseHeader() {
  uint64_t header_bytes;
  if (bytes_.size() < sizeof(header_bytes)) {
    return Malformed(name_, absl::StrCat("the file has ", bytes_.size(),
                                         " bytes; the length of the header alone takes 8"));
  }
  std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
  const uint64_t rest_bytes = bytes_.size() - sizeof(header_bytes);
  if (header_bytes > kMaxHeaderBytes) {
    return Malformed(
        name_, absl::StrCat("its length is ", header_bytes, "; the limit is ", kMaxHeaderBytes));
  }
  if (header_bytes > rest_bytes) {
    return Malformed(name_, absl::StrCat("its length is ", header_bytes, ", but only ", rest_bytes,
                                         " bytes follow"));
  }
  header_bytes_ = sizeof(header_bytes) + header_bytes;
  const absl::Span<const std::byte> header = bytes_.subspan(sizeof(header_bytes), header_bytes);
  const absl::Span<const std::byte> data = bytes_.subspan(header_bytes_);
  if (header.empty() || header[0] != std::byte{'{'}) {
    return Malformed(name_, "it does not begin with {");
  }

  simdjson::dom::parser parser(kMaxHeaderBytes);
  simdjson::dom::element json;
  simdjson::error_code error = parser.allocate(header.size(), kMaxHeaderDepth);
  if (error == simdjson::SUCCESS) {
    error = parser.parse(reinterpret_cast<const uint8_t*>(header.data()), header.size()).get(json);
  }
  if (error != simdjson::SUCCESS) return Malformed(name_, simdjson::error_message(error));
  simdjson::dom::object object;
  if (json.get(object) != simdjson::SUCCESS) return Malformed(name_, "it is not a JSON object");

  struct Extent {
    uint64_t begin;
    uint64_t end;
    absl::string_view tensor;
  };
  std::vector<Extent> extents;
  bool has_metadata = false;
  for (const simdjson::dom::key_value_pair field : object) {
    const absl::string_view name = View(field.key);
    if (name == kMetadataKey) {
      if (std::exchange(has_metadata, true)) {
        return Malformed(name_, "\"__metadata__\" is given twice");
      }
      RETURN_IF_ERROR(CheckMetadata(name_, field.value));
      continue;
    }
    ASSIGN_OR_RETURN(TensorEntry entry, ParseEntry(name_, name, field.value));
    RETURN_IF_ERROR(CheckEntry(name_, name, entry, data.size()));
    const auto [tensor, inserted] = tensors_.try_emplace(std::string(name));
    if (!inserted) return MalformedTensor(name_, name, "is given twice");
    tensor->second = {std::move(entry.dtype), std::move(entry.shape),
                      data.subspan(entry.begin, entry.end - entry.begin)};
    extents.push_back({entry.begin, entry.end, name});
  }

  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (const Extent& extent : extents) {
    if (extent.begin != position) {
      return MalformedTensor(
          name_, extent.tensor,
          absl::StrCat("its data begins at ", extent.begin,
                       extent.begin < position ? ", inside the tensor before it, which ends at "
                                               : ", leaving a hole after the tensor that ends at ",
                       position));
    }
    position = extent.end;
  }
  if (position != data.size()) {
    return Malformed(
        name_, absl::StrCat("its tensors take ", position, " bytes, but ", data.size(), " follow"));
  }
  return absl::OkStatus();
}

const SafetensorsFile::Tensor* SafetensorsFile::Find(absl::string_view tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? nullptr : &found->second;
}

absl::Status SafetensorsFile::Read(absl::string_view tensor, absl::Span<const int64_t> shape,
                                   absl::Span<float> output) const {
  const Tensor* found = Find(tensor);
  if (found == nullptr) return NoSuchTensor(name_, tensor);
  RETURN_IF_ERROR(CheckShape(name_, tensor, found->shape, shape));
  const StorageFormat* format = FindSafetensorsFormat(found->dtype);
  if (format == nullptr || format->widen == nullptr) {
    return absl::UnimplementedError(absl::StrCat(name_, ": tensor ", Printable(tensor),
                                                 " has the dtype ", Printable(found->dtype),
                                                 ", which is not read"));
  }
  const int64_t num_elements = NumElements(shape);
  CHECK_EQ(num_elements, static_cast<int64_t>(output.size())) << "output must fit " << tensor;
  format->widen(found->data.data(), num_elements, output.data());
  return absl::OkStatus();
}

void SafetensorsFile::Release(absl::string_view tensor) const {
  const Tensor* found = Find(tensor);
  if (found != nullptr && mapping_.has_value()) MappedFile::Release(found->data);
}

}  // namespace attendant::engine
