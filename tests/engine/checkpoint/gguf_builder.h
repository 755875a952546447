#ifndef ATTENDANT_TESTS_ENGINE_CHECKPOINT_GGUF_BUILDER_H_
#define ATTENDANT_TESTS_ENGINE_CHECKPOINT_GGUF_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace attendant::engine {

// The bytes of `value`.
template <typename T>
std::string Raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
inline std::string RawString(const std::string& text) { return Raw<uint64_t>(text.size()) + text; }

inline absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// Writes GGUF files, wrong ones too: counts and offsets can be set apart from what is there.
class GgufBuilder {
 public:
  enum Type : uint32_t {
    kUint8,
    kInt8,
    kUint16,
    kInt16,
    kUint32,
    kInt32,
    kFloat32,
    kBool,
    kString,
    kArray,
    kUint64,
    kInt64,
    kFloat64
  };

  GgufBuilder& Value(const std::string& key, uint32_t type, const std::string& raw) {
    values_ += RawString(key) + Raw(type) + raw;
    ++num_values;
    return *this;
  }
  GgufBuilder& Integer(const std::string& key, uint32_t value) {
    return Value(key, kUint32, Raw(value));
  }
  GgufBuilder& Float(const std::string& key, float value) {
    return Value(key, kFloat32, Raw(value));
  }
  GgufBuilder& String(const std::string& key, const std::string& value) {
    return Value(key, kString, RawString(value));
  }
  GgufBuilder& Strings(const std::string& key, const std::vector<std::string>& strings) {
    std::string raw = Raw<uint32_t>(kString) + Raw<uint64_t>(strings.size());
    for (const std::string& string : strings) raw += RawString(string);
    return Value(key, kArray, raw);
  }

  // `extents` as in the file, innermost first.
  GgufBuilder& Entry(const std::string& name, const std::vector<uint64_t>& extents, uint32_t type,
                     uint64_t offset) {
    entries_ += RawString(name) + Raw<uint32_t>(extents.size());
    for (const uint64_t extent : extents) entries_ += Raw(extent);
    entries_ += Raw(type) + Raw(offset);
    ++num_tensors;
    return *this;
  }
  GgufBuilder& Data(const std::string& data) {
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    return *this;
  }
  uint64_t num_data_bytes() const { return data_.size(); }
  GgufBuilder& FloatTensor(const std::string& name, const std::vector<uint64_t>& extents,
                           const std::vector<float>& values) {
    Entry(name, extents, 0, data_.size());
    return Data(std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size()));
  }

  std::string Build() const {
    std::string file =
        magic + Raw(version) + Raw(num_tensors) + Raw(num_values) + values_ + entries_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t num_tensors = 0;
  uint64_t num_values = 0;

 private:
  std::string values_;
  std::string entries_;
  std::string data_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_CHECKPOINT_GGUF_BUILDER_H_
