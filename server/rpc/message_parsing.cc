#include "server/rpc/message_parsing.h"

#include <map>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/proto_buffer_writer.h"
#include "server/rpc/utf8.h"
#include "server/status/status_details.h"

namespace attendant::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::io::CodedInputStream;

constexpr int kMaxDepth = 100;  // as deep as the parser goes

enum WireType { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

absl::Status Malformed(const Descriptor& type, absl::string_view path) {
  return ErrorWithReason(absl::StatusCode::kInvalidArgument, reason::kMalformedMessage,
                         absl::StrCat(path.empty() ? "the request" : path, " is not a well-formed ",
                                      type.full_name(), " message"));
}

absl::Status CheckString(absl::string_view value, absl::string_view path) {
  const size_t valid = ValidUtf8Prefix(value);
  if (valid == value.size()) return absl::OkStatus();
  return InvalidField(path,
                      absl::StrCat("is not UTF-8: byte ", valid, " of ", value.size(), " is 0x",
                                   absl::Hex(static_cast<uint8_t>(value[valid]), absl::kZeroPad2)));
}

// Why the parser refused `bytes`: walks the wire format beside the descriptor until something is
// wrong.
absl::Status FindFault(const Descriptor& type, absl::string_view bytes, const std::string& path,
                       int depth) {
  if (depth > kMaxDepth) return Malformed(type, path);
  CodedInputStream input(reinterpret_cast<const uint8_t*>(bytes.data()),
                         static_cast<int>(bytes.size()));
  std::map<int, int> num_seen;
  while (const uint32_t tag = input.ReadTag()) {
    uint64_t number;
    uint32_t length;
    switch (tag & 7) {
      case kVarint:
        if (!input.ReadVarint64(&number)) return Malformed(type, path);
        continue;
      case kFixed64:
        if (!input.Skip(8)) return Malformed(type, path);
        continue;
      case kFixed32:
        if (!input.Skip(4)) return Malformed(type, path);
        continue;
      case kLengthDelimited:
        break;
      default:
        return Malformed(type, path);
    }
    if (!input.ReadVarint32(&length)) return Malformed(type, path);
    const size_t position = input.CurrentPosition();
    if (length > bytes.size() - position || !input.Skip(static_cast<int>(length)))
      return Malformed(type, path);
    const FieldDescriptor* field = type.FindFieldByNumber(static_cast<int>(tag >> 3));
    if (field == nullptr) continue;
    std::string field_path = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    if (field->is_repeated()) absl::StrAppend(&field_path, "[", num_seen[field->number()]++, "]");
    const absl::string_view value = bytes.substr(position, length);
    absl::Status fault;
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      fault = CheckString(value, field_path);
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      fault = FindFault(*field->message_type(), value, field_path, depth + 1);
    }
    if (!fault.ok()) return fault;
  }
  if (!input.ConsumedEntireMessage() ||
      static_cast<size_t>(input.CurrentPosition()) != bytes.size()) {
    return Malformed(type, path);
  }
  return absl::OkStatus();
}

std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  // The reader takes a buffer that it may not change; its constructor asks for one all the same.
  grpc::ProtoBufferReader reader(const_cast<grpc::ByteBuffer*>(&bytes));
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  const Descriptor& type = *message.GetDescriptor();
  absl::Status fault = FindFault(type, Flatten(bytes), "", 0);
  return fault.ok() ? Malformed(type, "") : fault;
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  const size_t size = message.ByteSizeLong();
  // One block for a small message; a large one in pieces that need no contiguous memory.
  constexpr int kMaxBlockBytes = 1 << 20;
  grpc::ByteBuffer buffer;
  grpc::ProtoBufferWriter writer(&buffer, kMaxBlockBytes, static_cast<int>(size));
  CHECK(message.SerializeToZeroCopyStream(&writer))
      << message.GetTypeName() << " of " << size << " bytes";
  return buffer;
}

}  // namespace attendant::server
