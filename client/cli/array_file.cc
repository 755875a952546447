#include "client/cli/array_file.h"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"

namespace attendant::client {
namespace {

constexpr absl::string_view kNpyMagic("\x93NUMPY", 6);

absl::Status Malformed(absl::string_view name, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", why));
}

// What follows 'key': in the dictionary of a .npy header, up to the comma or the closing
// parenthesis.
std::optional<absl::string_view> FindInHeader(absl::string_view header, absl::string_view key) {
  const size_t found = header.find(absl::StrCat("'", key, "':"));
  if (found == absl::string_view::npos) return std::nullopt;
  absl::string_view value = header.substr(found + key.size() + 3);
  value = absl::StripLeadingAsciiWhitespace(value);
  const size_t end = absl::ConsumePrefix(&value, "(") ? value.find(')') : value.find_first_of(",}");
  if (end == absl::string_view::npos) return std::nullopt;
  return value.substr(0, end);
}

v1::DataType TypeOfNpy(absl::string_view descr) {
  if (descr == "'<f4'") return v1::DATA_TYPE_FLOAT32;
  if (descr == "'<f2'") return v1::DATA_TYPE_FLOAT16;
  return v1::DATA_TYPE_UNSPECIFIED;
}

// float64 has no type in the contract: its values are rounded to float32.
std::string NarrowDoubles(absl::string_view data) {
  std::string narrow(data.size() / 2, '\0');
  for (size_t i = 0; i < data.size() / sizeof(double); ++i) {
    double wide;
    std::memcpy(&wide, data.data() + i * sizeof(double), sizeof(double));
    const float value = static_cast<float>(wide);
    std::memcpy(narrow.data() + i * sizeof(float), &value, sizeof(float));
  }
  return narrow;
}

// Appends the numbers of `value`, which is below `depth` lists, and checks that lists at one depth
// are equally long.
absl::Status Flatten(const google::protobuf::Value& value, size_t depth, FloatTensor& tensor,
                     absl::string_view name) {
  if (value.has_number_value()) {
    if (depth != tensor.shape.size())
      return Malformed(name, "some lists are nested deeper than others");
    tensor.values.push_back(static_cast<float>(value.number_value()));
    return absl::OkStatus();
  }
  if (!value.has_list_value())
    return Malformed(name, "holds something that is neither a number nor a list");
  const auto& list = value.list_value().values();
  if (depth == tensor.shape.size() && tensor.values.empty()) tensor.shape.push_back(list.size());
  if (depth >= tensor.shape.size() || tensor.shape[depth] != list.size()) {
    return Malformed(name, "its lists are not equally long");
  }
  for (const google::protobuf::Value& element : list) {
    const absl::Status status = Flatten(element, depth + 1, tensor, name);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FloatTensor> ParseNpy(absl::string_view content, absl::string_view name) {
  absl::string_view rest = content;
  if (!absl::ConsumePrefix(&rest, kNpyMagic) || rest.size() < 4)
    return Malformed(name, "is not a .npy file");
  // The version, and the length of the header in 2 bytes (version 1) or 4.
  const size_t length_bytes = rest[0] == 1 ? 2 : 4;
  uint32_t header_size = 0;
  if (rest.size() < 2 + length_bytes) return Malformed(name, "ends within its header");
  std::memcpy(&header_size, rest.data() + 2, length_bytes);
  rest.remove_prefix(2 + length_bytes);
  if (rest.size() < header_size) return Malformed(name, "ends within its header");
  const absl::string_view header = rest.substr(0, header_size);
  const absl::string_view data = rest.substr(header_size);

  const auto descr = FindInHeader(header, "descr");
  const auto order = FindInHeader(header, "fortran_order");
  const auto shape = FindInHeader(header, "shape");
  if (!descr || !order || !shape)
    return Malformed(name, "its header lacks descr, fortran_order or shape");
  if (*order != "False")
    return Malformed(name, "is in Fortran order; numpy.ascontiguousarray() changes that");

  v1::Tensor message;
  for (const absl::string_view size : absl::StrSplit(*shape, ',', absl::SkipWhitespace())) {
    int64_t number;
    if (!absl::SimpleAtoi(size, &number))
      return Malformed(name, absl::StrCat("its shape has '", size, "'"));
    message.add_shape(number);
  }
  if (*descr == "'<f8'" && data.size() % sizeof(double) == 0) {
    message.set_dtype(v1::DATA_TYPE_FLOAT32);
    message.set_data(NarrowDoubles(data));
  } else {
    message.set_dtype(TypeOfNpy(*descr));
    message.set_data(std::string(data));
  }
  if (message.dtype() == v1::DATA_TYPE_UNSPECIFIED) {
    return Malformed(name, absl::StrCat("has values of type ", *descr,
                                        "; float16, float32 and float64 are read"));
  }
  auto tensor = FromMessage(message);
  if (!tensor.ok()) return Malformed(name, tensor.status().message());
  return tensor;
}

absl::StatusOr<FloatTensor> ParseJsonArray(absl::string_view content, absl::string_view name) {
  google::protobuf::Value value;
  const auto parsed =
      google::protobuf::util::JsonStringToMessage({content.data(), content.size()}, &value);
  if (!parsed.ok()) return Malformed(name, "is neither .npy nor JSON");
  FloatTensor tensor;
  absl::Status status = Flatten(value, 0, tensor, name);
  if (!status.ok()) return status;
  return tensor;
}

absl::StatusOr<FloatTensor> ReadArrayFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  return absl::StartsWith(content, kNpyMagic) ? ParseNpy(content, path)
                                              : ParseJsonArray(content, path);
}

absl::Status WriteNpyFile(const FloatTensor& tensor, const std::string& path) {
  // The comma makes a tuple of a single axis, too.
  std::string header = absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': (",
                                    absl::StrJoin(tensor.shape, ","), ",), }");
  // Magic, version, length and header together are a multiple of 64 bytes, and end with a newline.
  header.append(63 - (kNpyMagic.size() + 4 + header.size()) % 64, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file << kNpyMagic << '\x01' << '\0' << static_cast<char>(header.size() & 0xff)
       << static_cast<char>(header.size() >> 8) << header;
  file.write(reinterpret_cast<const char*>(tensor.values.data()),
             tensor.values.size() * sizeof(float));
  file.close();
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be written"));
  return absl::OkStatus();
}

}  // namespace attendant::client
