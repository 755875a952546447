#ifndef ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECES_H_
#define ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/precompiled_charsmap.h"
#include "engine/tokenizer/token_trie.h"

namespace attendant::engine {

// What a SentencePiece file (.model, .spm) holds: pieces with their scores, and how text is
// normalized (Kudo and Richardson, 2018). The file is a ModelProto of sentencepiece_model.proto,
// https://github.com/google/sentencepiece; what has no part in encoding or decoding is skipped.
//
// We read it ourselves because SentencePiece's own library trusts it: it follows the double array
// of the normalization rules wherever that leads.
//
// Immutable; any thread.
class SentencePieces {
 public:
  enum class Algorithm { kUnigram = 1, kBytePair = 2 };
  enum class Kind { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    absl::string_view text;
    float score = 0;
    Kind kind = Kind::kNormal;
  };

  // INVALID_ARGUMENT, naming what and where, for bytes that are cut off or contradict themselves,
  // pieces that are empty, twice there, too long or not UTF-8, and for more or less than one
  // unknown piece; UNIMPLEMENTED for the algorithms word and char, and for a denormalizer.
  static absl::StatusOr<std::shared_ptr<const SentencePieces>> Parse(absl::string_view file);

  Algorithm algorithm() const { return algorithm_; }
  const std::vector<Piece>& pieces() const { return pieces_; }  // by index
  int32_t unknown() const { return unknown_; }                  // the index of the unknown piece
  absl::string_view unknown_surface() const { return unknown_surface_; }  // what it decodes to
  bool byte_fallback() const {
    return byte_fallback_;
  }  // the pieces <0x00> to <0xFF> are all there
  std::optional<int32_t> IndexOf(absl::string_view text) const;
  // What a byte piece stands for: 10 for "<0x0A>".
  static std::optional<uint8_t> ByteOf(absl::string_view text);

  // The longest piece that the user defined and that `text` starts with: its length, or 0.
  size_t UserDefinedPrefix(absl::string_view text) const;

  // How text is normalized.
  const PrecompiledCharsmap& charsmap() const { return charsmap_; }
  bool add_dummy_prefix() const { return add_dummy_prefix_; }  // a space before (behind) the text
  bool space_is_suffix() const { return space_is_suffix_; }    // words end with their space
  bool remove_extra_spaces() const { return remove_extra_spaces_; }
  // What a space becomes: U+2581, or a space.
  absl::string_view space() const { return escape_spaces_ ? "\u2581" : " "; }
  // The rules as the file has them; empty if there are none.
  absl::string_view charsmap_bytes() const { return charsmap_bytes_; }

 private:
  SentencePieces() = default;
  absl::Status ParseFields(absl::string_view file);
  absl::Status AddPiece(absl::string_view message);
  absl::Status ParseTrainer(absl::string_view message);
  absl::Status ParseNormalizer(absl::string_view message);
  absl::Status CheckAndIndex();

  std::deque<std::string> texts_;  // what the pieces point to
  std::vector<Piece> pieces_;
  absl::flat_hash_map<absl::string_view, int32_t> indices_;
  TokenTrie user_defined_{{}};
  int32_t unknown_ = -1;
  Algorithm algorithm_ = Algorithm::kUnigram;
  bool byte_fallback_ = false;
  std::string unknown_surface_ = " \u2047 ";
  std::string charsmap_bytes_;
  PrecompiledCharsmap charsmap_;
  bool add_dummy_prefix_ = true;
  bool space_is_suffix_ = false;
  bool remove_extra_spaces_ = true;
  bool escape_spaces_ = true;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_SENTENCE_PIECES_H_
