#include "engine/checkpoint/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/tensor.h"
#include "engine/checkpoint/messages.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kAlignmentKey = "general.alignment";
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr uint32_t kMaxRank = 4;          // ggml's own limit
constexpr int kMaxArrayDepth = 4;         // arrays of arrays are legal, and unused
constexpr uint64_t kMinTensorBytes = 24;  // of a tensor's entry: empty name, no extents
constexpr uint64_t kMinValueBytes = 13;   // of a key and value: empty key, one byte

enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Bytes of a value of a fixed size, else 0.
uint64_t FixedSize(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

absl::string_view TypeName(uint32_t type) {
  constexpr absl::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                          "int32",  "float32", "bool",   "string", "array",
                                          "uint64", "int64",   "float64"};
  return type < std::size(kNames) ? kNames[type] : "unknown";
}

template <typename T>
T Load(const std::byte* address) {
  T value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

absl::string_view AsString(absl::Span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The integer of type `type` at `address`; nothing if the type is another, or the value beyond
// int64.
std::optional<int64_t> LoadInteger(uint32_t type, const std::byte* address) {
  switch (type) {
    case kUint8:
      return Load<uint8_t>(address);
    case kInt8:
      return Load<int8_t>(address);
    case kUint16:
      return Load<uint16_t>(address);
    case kInt16:
      return Load<int16_t>(address);
    case kUint32:
      return Load<uint32_t>(address);
    case kInt32:
      return Load<int32_t>(address);
    case kInt64:
      return Load<int64_t>(address);
    case kUint64: {
      const uint64_t value = Load<uint64_t>(address);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> LoadFloat(uint32_t type, const std::byte* address) {
  switch (type) {
    case kFloat32:
      return Load<float>(address);
    case kFloat64:
      return Load<double>(address);
    default:
      return std::nullopt;
  }
}

}  // namespace

// Takes values off the front of the file. Every error names the file and where in it the reader
// stood.
class GgufFile::Reader {
 public:
  Reader(absl::string_view name, absl::Span<const std::byte> bytes) : name_(name), bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  absl::Status Malformed(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": malformed GGUF at byte ", position_, ": ", what));
  }

  absl::StatusOr<absl::Span<const std::byte>> Take(uint64_t count, absl::string_view what) {
    if (count > remaining()) {
      return Malformed(absl::StrCat(what, " takes ", count, " bytes, but only ", remaining(),
                                    " are left in the file"));
    }
    const absl::Span<const std::byte> taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> TakeNumber(absl::string_view what) {
    ASSIGN_OR_RETURN(const absl::Span<const std::byte> bytes, Take(sizeof(T), what));
    return Load<T>(bytes.data());
  }

  absl::StatusOr<absl::string_view> TakeString(absl::string_view what) {
    ASSIGN_OR_RETURN(const uint64_t length, TakeNumber<uint64_t>(what));
    ASSIGN_OR_RETURN(const absl::Span<const std::byte> bytes, Take(length, what));
    return AsString(bytes);
  }

  absl::StatusOr<Value> TakeValue(uint32_t type, absl::string_view key, int depth = 0) {
    Value value{type, 0, 1, {}};
    const uint64_t start = position_;
    if (const uint64_t size = FixedSize(type); size > 0) {
      RETURN_IF_ERROR(Take(size, key).status());
    } else if (type == kString) {
      RETURN_IF_ERROR(TakeString(key).status());
    } else if (type == kArray) {
      if (depth == kMaxArrayDepth) {
        return Malformed(
            absl::StrCat(key, ": arrays are nested more than ", kMaxArrayDepth, " deep"));
      }
      ASSIGN_OR_RETURN(value.element_type, TakeNumber<uint32_t>(key));
      ASSIGN_OR_RETURN(value.count, TakeNumber<uint64_t>(key));
      const uint64_t fixed = FixedSize(value.element_type);
      if (value.count > remaining() / std::max<uint64_t>(fixed, 1)) {
        return Malformed(absl::StrCat(key, ": an array of ", value.count, " ",
                                      TypeName(value.element_type), " values, but only ",
                                      remaining(), " bytes are left in the file"));
      }
      if (fixed > 0) {
        RETURN_IF_ERROR(Take(value.count * fixed, key).status());
      } else {
        for (uint64_t i = 0; i < value.count; ++i) {
          RETURN_IF_ERROR(TakeValue(value.element_type, key, depth + 1).status());
        }
      }
    } else {
      return Malformed(absl::StrCat(key, ": ", type, " is not a type of value"));
    }
    value.bytes = bytes_.subspan(start, position_ - start);
    return value;
  }

 private:
  absl::string_view name_;
  absl::Span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

absl::StatusOr<GgufFile> GgufFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  GgufFile file(path, mapping.bytes());
  file.mapping_ = std::move(mapping);
  RETURN_IF_ERROR(file.ParseAll());
  return file;
}

absl::StatusOr<GgufFile> GgufFile::Parse(std::string name, absl::Span<const std::byte> bytes) {
  GgufFile file(std::move(name), bytes);
  RETURN_IF_ERROR(file.ParseAll());
  return file;
}

std::string GgufFile::Fingerprint() const {
  return engine::Fingerprint(bytes_, header_bytes_, mapping_ ? &*mapping_ : nullptr);
}

absl::Status GgufFile::ParseAll() {
  Reader reader(name_, bytes_);
  const absl::StatusOr<absl::Span<const std::byte>> magic = reader.Take(4, "the magic");
  if (!magic.ok() || AsString(*magic) != "GGUF") {
    return absl::InvalidArgumentError(absl::StrCat(name_, " is neither a folder nor a GGUF file"));
  }
  ASSIGN_OR_RETURN(const uint32_t version, reader.TakeNumber<uint32_t>("the version"));
  if (version != 2 && version != 3) {
    const bool swapped = (version & 0xffff) == 0 && version != 0;
    return absl::UnimplementedError(
        swapped ? absl::StrCat(name_, " is a big-endian GGUF file; only little-endian is read")
                : absl::StrCat(name_, " has GGUF version ", version, "; 2 and 3 are read"));
  }
  ASSIGN_OR_RETURN(const uint64_t num_tensors, reader.TakeNumber<uint64_t>("the tensor count"));
  ASSIGN_OR_RETURN(const uint64_t num_values, reader.TakeNumber<uint64_t>("the metadata count"));
  RETURN_IF_ERROR(ParseMetadata(reader, num_values));
  RETURN_IF_ERROR(ParseTensors(reader, num_tensors));
  return CheckOverlaps();
}

absl::Status GgufFile::ParseMetadata(Reader& reader, uint64_t count) {
  if (count > reader.remaining() / kMinValueBytes) {
    return reader.Malformed(absl::StrCat("a metadata count of ", count, ", but only ",
                                         reader.remaining(), " bytes are left in the file"));
  }
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const absl::string_view key, reader.TakeString("a metadata key"));
    if (key.empty()) return reader.Malformed("a metadata key is empty");
    const std::string printable = Printable(key);
    ASSIGN_OR_RETURN(const uint32_t type, reader.TakeNumber<uint32_t>(printable));
    ASSIGN_OR_RETURN(const Value value, reader.TakeValue(type, printable));
    if (!metadata_.try_emplace(std::string(key), value).second) {
      return reader.Malformed(absl::StrCat("the key ", printable, " is given twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status GgufFile::ParseTensors(Reader& reader, uint64_t count) {
  if (count > reader.remaining() / kMinTensorBytes) {
    return reader.Malformed(absl::StrCat("a tensor count of ", count, ", but only ",
                                         reader.remaining(), " bytes are left in the file"));
  }
  ASSIGN_OR_RETURN(const std::optional<int64_t> given_alignment, GetInteger(kAlignmentKey));
  const uint64_t alignment = static_cast<uint64_t>(given_alignment.value_or(kDefaultAlignment));
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    return reader.Malformed(absl::StrCat(kAlignmentKey, " is ",
                                         given_alignment.value_or(kDefaultAlignment),
                                         "; expected a power of two, at most ", kMaxAlignment));
  }

  // The data begin behind the last entry, so their place is known only then.
  struct Entry {
    absl::string_view name;
    Tensor tensor;
    uint64_t offset;
  };
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const absl::string_view name, reader.TakeString("a tensor name"));
    if (name.empty()) return reader.Malformed("a tensor name is empty");
    const std::string printable = absl::StrCat("tensor ", Printable(name));
    ASSIGN_OR_RETURN(const uint32_t rank, reader.TakeNumber<uint32_t>(printable));
    if (rank > kMaxRank) {
      return reader.Malformed(
          absl::StrCat(printable, " has ", rank, " axes; at most ", kMaxRank, " are legal"));
    }
    std::vector<int64_t> shape(rank);
    for (uint32_t axis = 0; axis < rank; ++axis) {
      ASSIGN_OR_RETURN(shape[rank - 1 - axis], reader.TakeNumber<int64_t>(printable));
    }
    ASSIGN_OR_RETURN(const uint32_t type, reader.TakeNumber<uint32_t>(printable));
    ASSIGN_OR_RETURN(const uint64_t offset, reader.TakeNumber<uint64_t>(printable));
    const StorageFormat* format = FindGgmlFormat(type);
    if (format == nullptr) {
      return absl::UnimplementedError(absl::StrCat(name_, ": ", printable, " has the ggml type ",
                                                   type, ", which is not known here"));
    }
    if (offset % alignment != 0) {
      return reader.Malformed(absl::StrCat(printable, " is at offset ", offset,
                                           ", no multiple of the alignment ", alignment));
    }
    entries.push_back({name, {format, std::move(shape), {}}, offset});
  }

  const uint64_t data_start = std::min<uint64_t>(
      (reader.position() + alignment - 1) / alignment * alignment, bytes_.size());
  header_bytes_ = data_start;
  const absl::Span<const std::byte> data = bytes_.subspan(data_start);
  for (Entry& entry : entries) {
    const std::string printable = Printable(entry.name);
    const std::vector<int64_t>& shape = entry.tensor.shape;
    const StorageFormat& format = *entry.tensor.format;
    const int64_t num_elements = NumElements(shape);
    if (num_elements < 0 || num_elements > INT64_MAX / format.block_bytes) {
      return reader.Malformed(absl::StrCat("tensor ", printable, ": the shape ", ShapeString(shape),
                                           " is negative or too large"));
    }
    const int64_t row_size = shape.empty() ? 1 : shape.back();
    if (row_size % format.block_size != 0) {
      return reader.Malformed(absl::StrCat("tensor ", printable, " has rows of ", row_size,
                                           " values; ", format.name, " takes multiples of ",
                                           format.block_size));
    }
    const uint64_t num_bytes =
        static_cast<uint64_t>(num_elements / format.block_size * format.block_bytes);
    if (entry.offset > data.size() || num_bytes > data.size() - entry.offset) {
      return reader.Malformed(absl::StrCat("tensor ", printable, " (", format.name, " ",
                                           ShapeString(shape), ") takes ", num_bytes,
                                           " bytes at offset ", entry.offset,
                                           ", but the file holds ", data.size(), " bytes of data"));
    }
    entry.tensor.data = data.subspan(entry.offset, num_bytes);
    if (!tensors_.try_emplace(std::string(entry.name), std::move(entry.tensor)).second) {
      return reader.Malformed(absl::StrCat("tensor ", printable, " is given twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status GgufFile::CheckOverlaps() const {
  std::vector<std::pair<absl::Span<const std::byte>, absl::string_view>> extents;
  for (const auto& [name, tensor] : tensors_) {
    if (!tensor.data.empty()) extents.emplace_back(tensor.data, name);
  }
  std::sort(extents.begin(), extents.end(),
            [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i - 1].first.data() + extents[i - 1].first.size() > extents[i].first.data()) {
      return absl::InvalidArgumentError(absl::StrCat(
          name_, ": malformed GGUF: the data of the tensors ", Printable(extents[i - 1].second),
          " and ", Printable(extents[i].second), " overlap"));
    }
  }
  return absl::OkStatus();
}

const GgufFile::Tensor* GgufFile::Find(absl::string_view tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? nullptr : &found->second;
}

const GgufFile::Value* GgufFile::FindValue(absl::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

absl::Status GgufFile::WrongType(absl::string_view key, const Value& value,
                                 absl::string_view expected) const {
  std::string found(TypeName(value.type));
  if (value.type == kArray) absl::StrAppend(&found, " of ", TypeName(value.element_type));
  return absl::InvalidArgumentError(
      absl::StrCat(name_, ": ", key, " is of type ", found, "; expected ", expected));
}

absl::StatusOr<std::optional<int64_t>> GgufFile::GetInteger(absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> integer = LoadInteger(value->type, value->bytes.data());
  if (!integer.has_value()) return WrongType(key, *value, "an integer below 2^63");
  return integer;
}

absl::StatusOr<std::optional<double>> GgufFile::GetFloat(absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = LoadFloat(value->type, value->bytes.data());
  if (!number.has_value()) return WrongType(key, *value, "a float");
  return number;
}

absl::StatusOr<std::optional<bool>> GgufFile::GetBool(absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != kBool) return WrongType(key, *value, "bool");
  return value->bytes[0] != std::byte{0};
}

absl::StatusOr<std::optional<std::string>> GgufFile::GetString(absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != kString) return WrongType(key, *value, "string");
  return std::string(AsString(value->bytes.subspan(sizeof(uint64_t))));
}

absl::StatusOr<std::optional<std::vector<std::string>>> GgufFile::GetStrings(
    absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != kArray || value->element_type != kString) {
    return WrongType(key, *value, "array of string");
  }
  Reader reader(name_, value->bytes.subspan(sizeof(uint32_t) + sizeof(uint64_t)));
  std::vector<std::string> strings;
  strings.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    ASSIGN_OR_RETURN(const absl::string_view string, reader.TakeString(key));
    strings.emplace_back(string);
  }
  return strings;
}

absl::StatusOr<std::optional<std::vector<int64_t>>> GgufFile::GetIntegers(
    absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  const std::byte* element = value->bytes.data() + sizeof(uint32_t) + sizeof(uint64_t);
  std::vector<int64_t> integers;
  for (uint64_t i = 0; value->type == kArray && i < value->count; ++i) {
    const std::optional<int64_t> integer = LoadInteger(value->element_type, element);
    if (!integer.has_value()) break;
    integers.push_back(*integer);
    element += FixedSize(value->element_type);
  }
  if (value->type != kArray || integers.size() != value->count) {
    return WrongType(key, *value, "array of integers below 2^63");
  }
  return integers;
}

absl::StatusOr<std::optional<std::vector<double>>> GgufFile::GetFloats(
    absl::string_view key) const {
  const Value* value = FindValue(key);
  if (value == nullptr) return std::nullopt;
  const std::byte* element = value->bytes.data() + sizeof(uint32_t) + sizeof(uint64_t);
  std::vector<double> numbers;
  for (uint64_t i = 0; value->type == kArray && i < value->count; ++i) {
    const std::optional<double> number = LoadFloat(value->element_type, element);
    if (!number.has_value()) break;
    numbers.push_back(*number);
    element += FixedSize(value->element_type);
  }
  if (value->type != kArray || numbers.size() != value->count) {
    return WrongType(key, *value, "array of floats");
  }
  return numbers;
}

void GgufFile::Release(const Tensor& tensor) const {
  if (mapping_.has_value()) MappedFile::Release(tensor.data);
}

}  // namespace attendant::engine
