#include "engine/tokenizer/sentence_piece.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kReplacementCharacter = "\uFFFD";
constexpr absl::string_view kSpaceSymbol = "\u2581";
constexpr size_t kKeptEntries = size_t{1} << 16;  // of buffers that outlive a text

using Pieces = std::shared_ptr<const SentencePieces>;
using Kind = SentencePieces::Kind;

class SentencePieceNormalizer : public Normalizer {
 public:
  explicit SentencePieceNormalizer(Pieces pieces) : pieces_(std::move(pieces)) {}

  absl::Status Normalize(NormalizedString& string) const override {
    const absl::string_view text = string.text;
    const absl::string_view space = pieces_->space();
    const bool joins_spaces = pieces_->remove_extra_spaces();
    std::string normalized;
    std::vector<uint32_t> from;  // by byte of `normalized`: where in `text` it came from
    const auto append = [&](absl::string_view bytes, size_t position) {
      normalized.append(bytes.data(), bytes.size());
      from.insert(from.end(), bytes.size(), static_cast<uint32_t>(position));
    };

    size_t position = 0;
    while (joins_spaces && position < text.size()) {
      const PrecompiledCharsmap::Match match = Prefix(text.substr(position));
      if (match.replacement != " ") break;
      position += match.length;
    }
    if (position < text.size()) {
      if (pieces_->add_dummy_prefix() && !pieces_->space_is_suffix()) append(space, position);
      bool after_space = joins_spaces;
      while (position < text.size()) {
        const PrecompiledCharsmap::Match match = Prefix(text.substr(position));
        absl::string_view replacement = match.replacement;
        while (after_space && absl::ConsumePrefix(&replacement, " ")) {
        }
        for (size_t i = 0; i < replacement.size(); ++i)
          append(replacement[i] == ' ' ? space : replacement.substr(i, 1), position);
        if (!replacement.empty()) after_space = joins_spaces && absl::EndsWith(replacement, " ");
        position += match.length;
        if (normalized.size() > string.max_bytes) return TextTooLong(string.max_bytes);
      }
      while (joins_spaces && absl::EndsWith(normalized, space)) {
        normalized.resize(normalized.size() - space.size());
        position = from[normalized.size()];
        from.resize(normalized.size());
      }
      if (pieces_->add_dummy_prefix() && pieces_->space_is_suffix()) append(space, position);
    }

    // A byte ends where the next one begins: then a token, from its first byte to its last, covers
    // what SentencePiece says.
    const auto original = [&](size_t at) {
      return at < text.size() ? string.origins[at].begin : string.original.end;
    };
    std::vector<TextRange> origins(normalized.size());
    for (size_t i = 0; i < origins.size(); ++i) {
      origins[i] = {original(from[i]), original(i + 1 < from.size() ? from[i + 1] : position)};
    }
    string.text = std::move(normalized);
    string.origins = std::move(origins);
    return absl::OkStatus();
  }

 private:
  // What `text` starts with, and what that becomes.
  PrecompiledCharsmap::Match Prefix(absl::string_view text) const {
    if (const size_t length = pieces_->UserDefinedPrefix(text); length > 0)
      return {length, text.substr(0, length)};
    if (const auto match = pieces_->charsmap().LongestPrefix(text)) return *match;
    // Rules that cut a character in two leave its other half.
    if (unicode::IsContinuation(text[0])) return {1, kReplacementCharacter};
    const size_t length = unicode::CharLength(text[0]);
    return {length, text.substr(0, length)};
  }

  const Pieces pieces_;
};

// A part of a text that becomes a piece.
struct Part {
  uint32_t begin;
  uint32_t end;
  int32_t index;
};

// What Unigram and BPE share: how the pieces of a text become tokens.
class SentencePieceModel : public Model {
 public:
  SentencePieceModel(Pieces pieces, Vocabulary vocabulary, int32_t unknown_id)
      : Model(std::move(vocabulary)), pieces_(std::move(pieces)), unknown_id_(unknown_id) {
    for (const SentencePieces::Piece& piece : pieces_->pieces()) {
      const int32_t id = this->vocabulary().IdOf(piece.text).value_or(unknown_id);
      ids_.push_back(id);
      if (piece.kind == Kind::kByte) byte_ids_[*SentencePieces::ByteOf(piece.text)] = id;
    }
  }

  bool IsCalledByText(int32_t id) const override { return id == unknown_id_; }

  absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const override {
    thread_local std::vector<Part> parts;
    parts.clear();
    Cut(piece, parts);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      if (part.index != pieces_->unknown()) {
        tokens.push_back({ids_[part.index], part.begin, part.end});
        continue;
      }
      if (pieces_->byte_fallback()) {
        for (uint32_t at = part.begin; at < part.end; ++at)
          tokens.push_back({byte_ids_[static_cast<uint8_t>(piece[at])], part.begin, part.end});
        continue;
      }
      const uint32_t begin = part.begin;
      while (i + 1 < parts.size() && parts[i + 1].index == pieces_->unknown()) ++i;
      const uint32_t end = parts[i].end;
      const auto id = vocabulary().IdOf(piece.substr(begin, end - begin));
      tokens.push_back({id.value_or(unknown_id_), begin, end});
    }
    if (parts.capacity() > kKeptEntries) parts = std::vector<Part>();
    return absl::OkStatus();
  }

 protected:
  // Covers `text`, which is not empty, with parts.
  virtual void Cut(absl::string_view text, std::vector<Part>& parts) const = 0;

  const SentencePieces& pieces() const { return *pieces_; }

  // The pieces that text is made of, as a trie or a map may hold them.
  static bool IsOfText(Kind kind) {
    return kind == Kind::kNormal || kind == Kind::kUserDefined || kind == Kind::kUnused;
  }

 private:
  const Pieces pieces_;
  const int32_t unknown_id_;
  std::vector<int32_t> ids_;  // by index
  std::array<int32_t, 256> byte_ids_{};
};

class SentencePieceUnigram : public SentencePieceModel {
 public:
  SentencePieceUnigram(Pieces pieces, Vocabulary vocabulary, int32_t unknown_id)
      : SentencePieceModel(std::move(pieces), std::move(vocabulary), unknown_id),
        trie_(MakeTrie(this->pieces())) {
    float lowest = std::numeric_limits<float>::max();
    float highest = std::numeric_limits<float>::min();  // the smallest above zero, as there
    for (const SentencePieces::Piece& piece : this->pieces().pieces()) {
      if (piece.kind != Kind::kNormal) continue;
      lowest = std::min(lowest, piece.score);
      highest = std::max(highest, piece.score);
    }
    unknown_score_ = lowest - kUnknownPenalty;
    highest_score_ = highest;
  }

  absl::string_view kind() const override { return "Unigram"; }

 private:
  static constexpr float kUnknownPenalty = 10.0F;

  static TokenTrie MakeTrie(const SentencePieces& pieces) {
    std::vector<std::pair<absl::string_view, int32_t>> tokens;
    for (size_t i = 0; i < pieces.pieces().size(); ++i) {
      const SentencePieces::Piece& piece = pieces.pieces()[i];
      if (IsOfText(piece.kind)) tokens.emplace_back(piece.text, static_cast<int32_t>(i));
    }
    return TokenTrie(std::move(tokens));
  }

  // Viterbi's algorithm. Paths are summed in single precision and compared in double, as
  // SentencePiece does: ties and near ties fall the same way.
  void Cut(absl::string_view text, std::vector<Part>& parts) const override {
    struct Node {
      float score = 0;
      int32_t index = -1;
      uint32_t begin = kUnreached;
    };
    thread_local std::vector<Node> nodes;  // the best path to each byte: its score, its last piece
    nodes.assign(text.size() + 1, Node());
    for (size_t begin = 0; begin < text.size();) {
      const float score_here = nodes[begin].score;
      const size_t char_length = std::min(unicode::CharLength(text[begin]), text.size() - begin);
      bool has_char = false;
      const auto reach = [&](size_t length, int32_t index, double score) {
        Node& node = nodes[begin + length];
        if (node.begin != kUnreached && score <= node.score) return;
        node = {static_cast<float>(score), index, static_cast<uint32_t>(begin)};
      };
      trie_.VisitPrefixes(text.substr(begin), [&](size_t length, int32_t index) {
        const SentencePieces::Piece& piece = pieces().pieces()[index];
        if (piece.kind == Kind::kUnused) return;
        // A piece that the user defined beats what else could be made of its text.
        const double score = piece.kind == Kind::kUserDefined
                                 ? static_cast<float>(length) * highest_score_ - 0.1
                                 : piece.score;
        reach(length, index, score + score_here);
        has_char |= length == char_length;
      });
      if (!has_char) reach(char_length, pieces().unknown(), unknown_score_ + score_here);
      begin += char_length;
    }
    for (size_t end = text.size(); end > 0; end = nodes[end].begin)
      parts.push_back({nodes[end].begin, static_cast<uint32_t>(end), nodes[end].index});
    std::reverse(parts.begin(), parts.end());
    if (nodes.capacity() > kKeptEntries) nodes = std::vector<Node>();
  }

  static constexpr uint32_t kUnreached = std::numeric_limits<uint32_t>::max();

  const TokenTrie trie_;
  float unknown_score_;
  float highest_score_;
};

// Of all neighbours that spell a piece, the pair of the highest score is joined, the leftmost
// first, until none is left. Pieces that are unused serve on the way, and are cut again in the end.
class SentencePieceBytePair : public SentencePieceModel {
 public:
  SentencePieceBytePair(Pieces pieces, Vocabulary vocabulary, int32_t unknown_id)
      : SentencePieceModel(std::move(pieces), std::move(vocabulary), unknown_id) {}

  absl::string_view kind() const override { return "BPE"; }

 private:
  struct Symbol {
    uint32_t begin;
    uint32_t length;  // 0 once joined to the left one
    int32_t previous;
    int32_t next;
    bool is_frozen;  // the user defined it: it is not joined
  };
  struct Pair {
    float score;
    int32_t left;
    int32_t right;
    uint32_t length;
    friend bool operator<(const Pair& a, const Pair& b) {
      return a.score < b.score || (a.score == b.score && a.left > b.left);
    }
  };
  // What an unused piece was joined from.
  using Cuts = absl::flat_hash_map<absl::string_view, uint32_t>;

  // The piece of text that spells `text`, if there is one.
  std::optional<int32_t> Find(absl::string_view text) const {
    const std::optional<int32_t> index = pieces().IndexOf(text);
    return index.has_value() && IsOfText(pieces().pieces()[*index].kind) ? index : std::nullopt;
  }

  void Cut(absl::string_view text, std::vector<Part>& parts) const override {
    thread_local std::vector<Symbol> symbols;
    thread_local std::vector<Pair> heap;
    symbols.clear();
    heap.clear();
    Cuts cuts;
    for (size_t begin = 0; begin < text.size();) {
      const size_t user_defined = pieces().UserDefinedPrefix(text.substr(begin));
      const size_t length = user_defined > 0 ? user_defined : unicode::CharLength(text[begin]);
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(length), index - 1,
                         index + 1, user_defined > 0});
      begin += length;
    }
    symbols.back().next = -1;
    const auto push = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0 || symbols[left].is_frozen || symbols[right].is_frozen) return;
      const uint32_t length = symbols[left].length + symbols[right].length;
      const absl::string_view joined = text.substr(symbols[left].begin, length);
      const std::optional<int32_t> index = Find(joined);
      if (!index.has_value()) return;
      const SentencePieces::Piece& piece = pieces().pieces()[*index];
      heap.push_back({piece.score, left, right, length});
      std::push_heap(heap.begin(), heap.end());
      if (piece.kind == Kind::kUnused) cuts[joined] = symbols[left].length;
    };
    for (int32_t i = 1; i < static_cast<int32_t>(symbols.size()); ++i) push(i - 1, i);
    while (!heap.empty()) {
      const Pair top = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol& left = symbols[top.left];
      Symbol& right = symbols[top.right];
      if (left.length == 0 || right.length == 0 || left.length + right.length != top.length)
        continue;
      left.length = top.length;
      left.next = right.next;
      if (right.next >= 0) symbols[right.next].previous = top.left;
      right.length = 0;
      push(left.previous, top.left);
      push(top.left, left.next);
    }
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
      CutUnused(text, symbols[i].begin, symbols[i].length, cuts, parts);
    if (symbols.capacity() > kKeptEntries) symbols = std::vector<Symbol>();
    if (heap.capacity() > kKeptEntries) heap = std::vector<Pair>();
  }

  // No deeper than a piece is long.
  void CutUnused(absl::string_view text, uint32_t begin, uint32_t length, const Cuts& cuts,
                 std::vector<Part>& parts) const {
    const absl::string_view part = text.substr(begin, length);
    const int32_t index = pieces().IndexOf(part).value_or(pieces().unknown());
    if (pieces().pieces()[index].kind == Kind::kUnused) {
      if (const auto cut = cuts.find(part); cut != cuts.end()) {
        CutUnused(text, begin, cut->second, cuts, parts);
        CutUnused(text, begin + cut->second, length - cut->second, cuts, parts);
        return;
      }
    }
    parts.push_back({begin, begin + length, index});
  }
};

// Python's str.isspace, which str.strip asks.
bool IsPythonSpace(char32_t c) { return unicode::IsWhitespace(c) || (c >= 0x1C && c <= 0x1F); }

class SentencePieceStep : public DecodingStep {
 public:
  struct Settings {
    Pieces pieces;
    SentencePieceDecoderOptions options;
    absl::flat_hash_set<std::string> special_tokens;
  };
  explicit SentencePieceStep(const Settings& settings) : settings_(settings) {}

  void Text(absl::string_view text) override { absl::StrAppend(&token_, text); }

  void EndToken() override {
    Token(token_);
    token_.clear();
    if (!output_.empty()) Flush(/*at_end=*/false);
  }

  void Finish() override {
    GiveBytes(/*at_end=*/true);
    Flush(/*at_end=*/true);
    next().EndToken();
    next().Finish();
  }

 private:
  void Token(absl::string_view token) {
    if (settings_.special_tokens.contains(token)) {
      GiveBytes(/*at_end=*/true);
      absl::StrAppend(&output_, token, settings_.options.after_special_token);
      at_start_ = true;
      return;
    }
    const SentencePieces& pieces = *settings_.pieces;
    const std::optional<int32_t> index = pieces.IndexOf(token);
    const Kind kind = index.has_value() ? pieces.pieces()[*index].kind : Kind::kUnknown;
    if (kind == Kind::kByte) {
      bytes_.push_back(static_cast<char>(*SentencePieces::ByteOf(token)));
      GiveBytes(/*at_end=*/false);
      return;
    }
    GiveBytes(/*at_end=*/true);
    if (kind == Kind::kControl) return;
    if (kind == Kind::kUnknown) {
      const absl::string_view text = index.has_value() ? pieces.unknown_surface() : token;
      Give(settings_.options.spaces_in_unknown ? absl::StrReplaceAll(text, {{kSpaceSymbol, " "}})
                                               : std::string(text));
      return;
    }
    // The space before the text is not the text's. Where spaces were joined, all that come first
    // go; else the one that was put there.
    bool took_space = false;
    if (at_start_ && (pieces.add_dummy_prefix() || pieces.remove_extra_spaces())) {
      took_space = absl::ConsumePrefix(&token, kSpaceSymbol) && !pieces.remove_extra_spaces();
    }
    Give(absl::StrReplaceAll(token, {{kSpaceSymbol, " "}}));
    if (took_space) at_start_ = false;
  }

  void Give(absl::string_view text) {
    if (!text.empty()) at_start_ = false;
    absl::StrAppend(&output_, text);
  }

  // Gives the characters that `bytes_` starts with; a byte that starts none is U+FFFD.
  void GiveBytes(bool at_end) {
    size_t position = 0;
    while (position < bytes_.size()) {
      const auto lead = static_cast<uint8_t>(bytes_[position]);
      const size_t length = lead < 0xC0 || lead >= 0xF8 ? 1 : unicode::CharLength(bytes_[position]);
      if (position + length > bytes_.size() && !at_end) break;
      const absl::string_view character = absl::string_view(bytes_).substr(position, length);
      if (character.size() == length && unicode::IsValidUtf8(character)) {
        Give(character);
        position += length;
      } else {
        Give(kReplacementCharacter);
        ++position;
      }
    }
    bytes_.erase(0, position);
  }

  // Passes on what is certain of the output: with `strip`, whitespace has to wait for what follows.
  void Flush(bool at_end) {
    size_t end = output_.size();
    if (settings_.options.strip) {
      size_t begin = 0;
      for (size_t position = 0; !any_ && position < end; begin = position) {
        if (!IsPythonSpace(unicode::Next(output_, position))) break;
      }
      output_.erase(0, begin);
      end = output_.size();
      while (end > 0) {
        const size_t last = unicode::LastBegin(absl::string_view(output_).substr(0, end));
        size_t position = last;
        if (!IsPythonSpace(unicode::Next(output_, position))) break;
        end = last;
      }
      if (at_end) output_.resize(end);
    }
    if (end == 0) return;
    any_ = true;
    next().Text(absl::string_view(output_).substr(0, end));
    output_.erase(0, end);
  }

  const Settings& settings_;
  std::string token_;
  std::string bytes_;     // the start of a character
  std::string output_;    // what has not been passed on
  bool at_start_ = true;  // of what lies between two special tokens
  bool any_ = false;      // has been passed on
};

class SentencePieceDecoder : public Decoder {
 public:
  explicit SentencePieceDecoder(SentencePieceStep::Settings settings)
      : settings_(std::move(settings)) {}
  void AddSteps(std::vector<std::unique_ptr<DecodingStep>>& steps) const override {
    steps.push_back(std::make_unique<SentencePieceStep>(settings_));
  }

 private:
  const SentencePieceStep::Settings settings_;
};

class MarianPreTokenizer : public PreTokenizer {
 public:
  MarianPreTokenizer(absl::flat_hash_map<std::string, int32_t> languages, int32_t unknown_id,
                     std::unique_ptr<Normalizer> normalizer)
      : languages_(std::move(languages)),
        unknown_id_(unknown_id),
        normalizer_(std::move(normalizer)) {}

  absl::Status PreTokenize(PreTokenizedString& string) const override {
    RETURN_IF_ERROR(string.Split([&](absl::string_view text, uint32_t begin) {
      const auto end = begin + static_cast<uint32_t>(text.size());
      const size_t mark = absl::StartsWith(text, ">>") ? text.find("<<") : absl::string_view::npos;
      if (mark != absl::string_view::npos) {
        const absl::string_view language = text.substr(0, mark + 2);
        const ByteRange range = {begin, begin + static_cast<uint32_t>(language.size())};
        const auto known = languages_.find(language);
        string.AddPiece(range,
                        {string.origins[range.begin].begin, string.origins[range.end - 1].end},
                        known == languages_.end() ? unknown_id_ : known->second);
        begin = range.end;
      }
      string.AddPart({begin, end});
      return absl::OkStatus();
    }));
    return string.Rewrite([&](NormalizedString& part) { return normalizer_->Normalize(part); });
  }

 private:
  const absl::flat_hash_map<std::string, int32_t> languages_;
  const int32_t unknown_id_;
  const std::unique_ptr<Normalizer> normalizer_;
};

}  // namespace

std::unique_ptr<Normalizer> CreateSentencePieceNormalizer(Pieces pieces) {
  return std::make_unique<SentencePieceNormalizer>(std::move(pieces));
}

absl::StatusOr<std::unique_ptr<Model>> CreateSentencePieceModel(Pieces pieces,
                                                                Vocabulary vocabulary,
                                                                absl::string_view unknown_token) {
  const std::optional<int32_t> unknown_id = vocabulary.IdOf(unknown_token);
  if (!unknown_id.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the vocabulary lacks the unknown token \"", unknown_token, "\""));
  }
  if (pieces->algorithm() == SentencePieces::Algorithm::kUnigram) {
    return std::make_unique<SentencePieceUnigram>(std::move(pieces), std::move(vocabulary),
                                                  *unknown_id);
  }
  return std::make_unique<SentencePieceBytePair>(std::move(pieces), std::move(vocabulary),
                                                 *unknown_id);
}

std::unique_ptr<Decoder> CreateSentencePiecesDecoder(Pieces pieces,
                                                     SentencePieceDecoderOptions options) {
  SentencePieceStep::Settings settings;
  settings.pieces = std::move(pieces);
  settings.special_tokens.insert(options.special_tokens.begin(), options.special_tokens.end());
  settings.options = std::move(options);
  return std::make_unique<SentencePieceDecoder>(std::move(settings));
}

std::unique_ptr<PreTokenizer> CreateMarianPreTokenizer(
    absl::flat_hash_map<std::string, int32_t> languages, int32_t unknown_id,
    std::unique_ptr<Normalizer> normalizer) {
  return std::make_unique<MarianPreTokenizer>(std::move(languages), unknown_id,
                                              std::move(normalizer));
}

}  // namespace attendant::engine
