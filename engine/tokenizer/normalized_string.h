#ifndef ATTENDANT_ENGINE_TOKENIZER_NORMALIZED_STRING_H_
#define ATTENDANT_ENGINE_TOKENIZER_NORMALIZED_STRING_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/tokenizer/regex.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// A text that is being normalized, with the way back: for each of its bytes, the bytes of the
// original from which it came. An inserted character comes from the same bytes as the one before
// it.
struct NormalizedString {
  NormalizedString() = default;
  // `text`, which starts at byte `begin` of the original, as it is.
  NormalizedString(absl::string_view text, int32_t begin);

  std::string text;                // UTF-8
  std::vector<TextRange> origins;  // one for each byte of `text`
  TextRange original;              // the part of the original that this covers

  size_t max_bytes = 0;                          // `text` may not grow beyond it
  absl::Time deadline = absl::InfiniteFuture();  // when regular expressions give up

  // Puts `prefix` before the first character; nothing if the text is empty.
  void Prepend(absl::string_view prefix);

  // Replaces each of `matches`, which are in order and do not overlap. INVALID_ARGUMENT if `text`
  // grows too long.
  absl::Status Replace(absl::Span<const ByteRange> matches, absl::string_view content);

  // The range of `text` that Rewriter replaces: all but characters at the start that came from
  // nothing.
  ByteRange RewriteRange() const;
  // Whether rewriting every character by itself would leave everything as it is.
  bool IsPlain() const {
    return !text.empty() && original.begin != original.end && origins[0].begin != origins[0].end;
  }
};

// Writes a NormalizedString anew, character by character.
//
//   Rewriter rewriter(string);
//   rewriter.Emit('a', 0);    // stands for the next character
//   rewriter.Emit('b', 1);    // is inserted
//   rewriter.Emit('c', -2);   // stands for the next character, and the two behind it are gone
//   RETURN_IF_ERROR(rewriter.Finish());
//
// What is left over of the old text is dropped. This is the bookkeeping of the reference library,
// to the letter, since offsets depend on it.
class Rewriter {
 public:
  // `skip`: characters removed at the start.
  explicit Rewriter(NormalizedString& string, int64_t skip = 0)
      : Rewriter(string, string.RewriteRange(), skip) {}
  Rewriter(NormalizedString& string, ByteRange range, int64_t skip);

  void Emit(char32_t c, int64_t change);
  absl::Status Finish();

 private:
  void Consume(int64_t count);

  NormalizedString& string_;
  const ByteRange range_;
  size_t offset_;  // in string_.text: what has been consumed of it
  std::string text_;
  std::vector<TextRange> origins_;
};

// The error of a text that grows beyond `max_bytes`.
absl::Status TextTooLong(size_t max_bytes);

// A text cut into pieces, on the way from the normalizer to the model.
struct PreTokenizedString {
  struct Piece {
    ByteRange range;        // of `text`
    TextRange original;     // the part of the original that it covers
    int32_t token_id = -1;  // an added token; no part of the pre-tokenizer touches it
  };

  std::string text;
  std::vector<TextRange> origins;  // one for each byte of `text`
  std::vector<Piece> pieces;       // none is empty
  size_t max_bytes = 0;
  absl::Time deadline = absl::InfiniteFuture();

  absl::string_view TextOf(const Piece& piece) const {
    return absl::string_view(text).substr(piece.range.begin, piece.range.end - piece.range.begin);
  }
  // Adds `range` of `string`, whose text starts at `base` of `this->text`.
  void AddPiece(ByteRange range, const TextRange& original, int32_t token_id = -1) {
    if (range.begin == range.end) return;
    pieces.push_back({range, original, token_id});
  }
  // A part of `piece`, in bytes of `text`; its origins say what it covers.
  void AddPart(ByteRange range) {
    if (range.begin >= range.end) return;
    pieces.push_back({range, {origins[range.begin].begin, origins[range.end - 1].end}, -1});
  }

  // Replaces each piece that is not a token by what `split(text, base)` adds with AddPart; `base`
  // is where the piece starts.
  template <typename SplitFn>
  absl::Status Split(SplitFn split) {
    std::vector<Piece> old;
    old.swap(pieces);
    pieces.reserve(old.size());
    for (const Piece& piece : old) {
      if (piece.token_id >= 0) {
        pieces.push_back(piece);
        continue;
      }
      if (absl::Status status = split(TextOf(piece), piece.range.begin); !status.ok())
        return status;
    }
    return absl::OkStatus();
  }

  // Applies `rewrite` to each piece that is not a token, as a string of its own.
  template <typename RewriteFn>
  absl::Status Rewrite(RewriteFn rewrite) {
    std::string new_text;
    std::vector<TextRange> new_origins;
    new_text.reserve(text.size() + pieces.size());
    new_origins.reserve(text.size() + pieces.size());
    std::vector<Piece> kept;
    kept.reserve(pieces.size());
    NormalizedString string;
    for (Piece& piece : pieces) {
      const size_t begin = new_text.size();
      const auto first = origins.begin() + piece.range.begin;
      const auto last = origins.begin() + piece.range.end;
      if (piece.token_id >= 0) {
        absl::StrAppend(&new_text, TextOf(piece));
        new_origins.insert(new_origins.end(), first, last);
      } else {
        string.text.assign(TextOf(piece).data(), TextOf(piece).size());
        string.origins.assign(first, last);
        string.original = piece.original;
        string.max_bytes = max_bytes;
        string.deadline = deadline;
        if (absl::Status status = rewrite(string); !status.ok()) return status;
        new_text.append(string.text);
        new_origins.insert(new_origins.end(), string.origins.begin(), string.origins.end());
        if (new_text.size() > max_bytes) return TextTooLong(max_bytes);
      }
      piece.range = {static_cast<uint32_t>(begin), static_cast<uint32_t>(new_text.size())};
      if (begin != new_text.size()) kept.push_back(piece);
    }
    text = std::move(new_text);
    origins = std::move(new_origins);
    pieces = std::move(kept);
    return absl::OkStatus();
  }
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_NORMALIZED_STRING_H_
