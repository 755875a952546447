#include "engine/tokenizer/sentence_pieces.h"

#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

// Several times the largest vocabulary there is; keeps a file of tiny pieces from costing
// gigabytes.
constexpr size_t kMaxPieces = size_t{1} << 21;

// A field of a message in Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding):
// a number, and a value that is an integer, four or eight bytes, or a string of bytes.
struct WireField {
  uint64_t number = 0;
  uint64_t integer = 0;     // or the four or eight bytes, the lowest first
  absl::string_view bytes;  // of a string or a message
  bool is_bytes = false;
};

class WireReader {
 public:
  explicit WireReader(absl::string_view message) : message_(message) {}

  bool AtEnd() const { return position_ == message_.size(); }

  absl::StatusOr<WireField> Next() {
    WireField field;
    const size_t begin = position_;
    ASSIGN_OR_RETURN(const uint64_t key, Varint());
    field.number = key >> 3;
    switch (key & 7) {
      case 0: {
        ASSIGN_OR_RETURN(field.integer, Varint());
        return field;
      }
      case 1: {
        ASSIGN_OR_RETURN(field.integer, Fixed(8));
        return field;
      }
      case 2: {
        ASSIGN_OR_RETURN(const uint64_t size, Varint());
        const size_t left = message_.size() - position_;
        if (size > left) {
          return absl::InvalidArgumentError(absl::StrCat("field ", field.number, " at byte ", begin,
                                                         " has ", size, " bytes; ", left,
                                                         " are left"));
        }
        field.bytes = message_.substr(position_, size);
        field.is_bytes = true;
        position_ += size;
        return field;
      }
      case 5: {
        ASSIGN_OR_RETURN(field.integer, Fixed(4));
        return field;
      }
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("byte ", begin, " starts no field of a SentencePiece model"));
    }
  }

 private:
  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (AtEnd()) break;
      const auto byte = static_cast<uint8_t>(message_[position_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("is cut off, or no SentencePiece model, at byte ", position_));
  }

  absl::StatusOr<uint64_t> Fixed(size_t size) {
    if (message_.size() - position_ < size) {
      return absl::InvalidArgumentError(absl::StrCat("is cut off at byte ", message_.size()));
    }
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
      value = value << 8 | static_cast<uint8_t>(message_[position_ + i]);
    position_ += size;
    return value;
  }

  const absl::string_view message_;
  size_t position_ = 0;
};

// Calls `visit` for each field of `message`, which errors call `name`.
template <typename Visit>
absl::Status ReadFields(absl::string_view name, absl::string_view message, Visit visit) {
  WireReader reader(message);
  while (!reader.AtEnd()) {
    absl::StatusOr<WireField> field = reader.Next();
    if (!field.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, name.empty() ? "" : ": ", field.status().message()));
    }
    RETURN_IF_ERROR(visit(*field));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SentencePieces>> SentencePieces::Parse(
    absl::string_view file) {
  std::shared_ptr<SentencePieces> result(new SentencePieces());
  RETURN_IF_ERROR(result->ParseFields(file));
  RETURN_IF_ERROR(result->CheckAndIndex());
  return result;
}

absl::Status SentencePieces::ParseFields(absl::string_view file) {
  return ReadFields("", file, [&](const WireField& field) -> absl::Status {
    if (!field.is_bytes) return absl::OkStatus();
    switch (field.number) {
      case 1:
        return AddPiece(field.bytes);
      case 2:
        return ParseTrainer(field.bytes);
      case 3:
        return ParseNormalizer(field.bytes);
      case 5:
        return ReadFields("denormalizer_spec", field.bytes, [](const WireField& rule) {
          constexpr int kPrecompiledCharsmap = 2;
          return rule.number == kPrecompiledCharsmap && !rule.bytes.empty()
                     ? absl::UnimplementedError("a denormalizer_spec with rules is not supported")
                     : absl::OkStatus();
        });
      default:
        return absl::OkStatus();
    }
  });
}

absl::Status SentencePieces::AddPiece(absl::string_view message) {
  const std::string name = absl::StrCat("pieces[", pieces_.size(), "]");
  if (pieces_.size() == kMaxPieces) {
    return absl::InvalidArgumentError(absl::StrCat("has more than ", kMaxPieces, " pieces"));
  }
  Piece piece;
  RETURN_IF_ERROR(ReadFields(name, message, [&](const WireField& field) -> absl::Status {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.integer));
    if (field.number == 3) {
      if (field.integer < 1 || field.integer > 6) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, ".type is ", field.integer, "; it is from 1 to 6"));
      }
      piece.kind = static_cast<Kind>(field.integer);
    }
    return absl::OkStatus();
  }));
  if (piece.text.empty() || piece.text.size() > TokenTrie::kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " has ", piece.text.size(), " bytes; it must have 1 to ", TokenTrie::kMaxTokenBytes));
  }
  if (!unicode::IsValidUtf8(piece.text))
    return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8"));
  if (!std::isfinite(piece.score))
    return absl::InvalidArgumentError(absl::StrCat(name, ".score is not a finite number"));
  piece.text = texts_.emplace_back(piece.text);
  if (!indices_.try_emplace(piece.text, static_cast<int32_t>(pieces_.size())).second) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is \"", piece.text, "\", which is there already"));
  }
  pieces_.push_back(piece);
  return absl::OkStatus();
}

absl::Status SentencePieces::ParseTrainer(absl::string_view message) {
  return ReadFields("trainer_spec", message, [&](const WireField& field) -> absl::Status {
    switch (field.number) {
      case 3:
        if (field.integer != 1 && field.integer != 2) {
          return absl::UnimplementedError(
              absl::StrCat("trainer_spec.model_type ", field.integer,
                           " is not supported; 1 (unigram) and 2 (BPE) are"));
        }
        algorithm_ = static_cast<Algorithm>(field.integer);
        break;
      case 24:
        space_is_suffix_ = field.integer != 0;
        break;
      case 35:
        byte_fallback_ = field.integer != 0;
        break;
      case 44:
        if (!unicode::IsValidUtf8(field.bytes))
          return absl::InvalidArgumentError("trainer_spec.unk_surface is not UTF-8");
        unknown_surface_ = std::string(field.bytes);
        break;
      default:
        break;
    }
    return absl::OkStatus();
  });
}

absl::Status SentencePieces::ParseNormalizer(absl::string_view message) {
  return ReadFields("normalizer_spec", message, [&](const WireField& field) -> absl::Status {
    switch (field.number) {
      case 2: {
        charsmap_bytes_ = std::string(field.bytes);
        if (field.bytes.empty()) break;
        absl::StatusOr<PrecompiledCharsmap> charsmap = PrecompiledCharsmap::Create(field.bytes);
        if (!charsmap.ok()) {
          return absl::InvalidArgumentError(
              absl::StrCat("normalizer_spec.precompiled_charsmap ", charsmap.status().message()));
        }
        charsmap_ = *std::move(charsmap);
        break;
      }
      case 3:
        add_dummy_prefix_ = field.integer != 0;
        break;
      case 4:
        remove_extra_spaces_ = field.integer != 0;
        break;
      case 5:
        escape_spaces_ = field.integer != 0;
        break;
      default:
        break;
    }
    return absl::OkStatus();
  });
}

absl::Status SentencePieces::CheckAndIndex() {
  std::vector<std::pair<absl::string_view, int32_t>> user_defined;
  int num_unknown = 0;
  int num_bytes = 0;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    const auto index = static_cast<int32_t>(i);
    switch (piece.kind) {
      case Kind::kUnknown:
        unknown_ = index;
        ++num_unknown;
        break;
      case Kind::kUserDefined:
        user_defined.emplace_back(piece.text, index);
        break;
      case Kind::kByte:
        if (!byte_fallback_ || !ByteOf(piece.text).has_value()) {
          return absl::InvalidArgumentError(absl::StrCat(
              "pieces[", i, "] is \"", piece.text, "\", of type BYTE, ",
              byte_fallback_ ? "which names no byte" : "but byte_fallback is not set"));
        }
        ++num_bytes;
        break;
      default:
        break;
    }
  }
  if (num_unknown != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", num_unknown, " unknown pieces; it must have one"));
  }
  if (byte_fallback_ && num_bytes != 256) {
    return absl::InvalidArgumentError(
        absl::StrCat("has byte_fallback, and ", num_bytes, " of the 256 byte pieces"));
  }
  user_defined_ = TokenTrie(std::move(user_defined));
  return absl::OkStatus();
}

std::optional<int32_t> SentencePieces::IndexOf(absl::string_view text) const {
  const auto entry = indices_.find(text);
  return entry == indices_.end() ? std::nullopt : std::optional<int32_t>(entry->second);
}

std::optional<uint8_t> SentencePieces::ByteOf(absl::string_view text) {
  uint32_t value = 0;
  if (text.size() != 6 || !absl::StartsWith(text, "<0x") || text[5] != '>' ||
      !absl::SimpleHexAtoi(text.substr(3, 2), &value)) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(value);
}

size_t SentencePieces::UserDefinedPrefix(absl::string_view text) const {
  size_t longest = 0;
  user_defined_.VisitPrefixes(text, [&](size_t length, int32_t) { longest = length; });
  return longest;
}

}  // namespace attendant::engine
