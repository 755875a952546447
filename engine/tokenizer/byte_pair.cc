#include "engine/tokenizer/byte_pair.h"

#include <algorithm>
#include <array>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/word_cache.h"

namespace attendant::engine {
namespace {

struct Merge {
  uint32_t rank;
  int32_t id;  // what the two become
};
using MergeMap = absl::flat_hash_map<uint64_t, Merge>;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A part of the piece: at first a character. A doubly linked list in a vector; length 0 once merged
// into the left one.
struct Symbol {
  int32_t id;
  int32_t previous;
  int32_t next;
  uint32_t length;
};

// A merge that may be done, in a heap by rank and then by position. It may have expired when its
// turn comes.
struct Candidate {
  uint64_t order;  // rank, position
  int32_t id;

  uint32_t position() const { return static_cast<uint32_t>(order); }
  friend bool operator<(const Candidate& a, const Candidate& b) { return a.order > b.order; }
};

class BytePair : public Model {
 public:
  BytePair(Vocabulary vocabulary, MergeMap merges, const BytePairOptions& options)
      : Model(std::move(vocabulary)),
        options_(options),
        merges_(std::move(merges)),
        decorates_(!options.continuing_subword_prefix.empty() ||
                   !options.end_of_word_suffix.empty()) {
    if (options.unknown_token.has_value())
      unknown_id_ = this->vocabulary().IdOf(*options.unknown_token);
    for (int byte = 0; byte < 256; ++byte) {
      if (options.byte_fallback)
        byte_ids_[byte] = this->vocabulary().IdOf(absl::StrFormat("<0x%02X>", byte));
    }
    for (const auto& [token, id] : this->vocabulary().ids()) {
      if (token.empty() || unicode::CharLength(token[0]) != token.size()) continue;
      size_t position = 0;
      const char32_t c = unicode::Next(token, position);
      if (c >= char_ids_.size()) char_ids_.resize(static_cast<size_t>(c) + 1, -1);
      char_ids_[c] = id;
    }
  }

  absl::string_view kind() const override { return "BPE"; }

  absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const override {
    if (options_.ignore_merges) {
      if (const std::optional<int32_t> id = vocabulary().IdOf(piece)) {
        tokens.push_back({*id, 0, static_cast<uint32_t>(piece.size())});
        return absl::OkStatus();
      }
    }
    const bool cacheable = WordCache::IsCacheable(piece);
    if (cacheable && cache_.Find(piece, tokens)) return absl::OkStatus();

    thread_local std::vector<Symbol> symbols;
    symbols.clear();
    RETURN_IF_ERROR(Spell(piece, symbols));
    MergeAll(symbols);
    const size_t first = tokens.size();
    uint32_t position = 0;
    for (const Symbol& symbol : symbols) {
      if (symbol.length == 0) continue;
      tokens.push_back({symbol.id, position, position + symbol.length});
      position += symbol.length;
    }
    if (cacheable) cache_.Insert(piece, tokens, first);
    if (symbols.capacity() > kKeptSymbols) symbols = std::vector<Symbol>();
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kKeptSymbols = 1 << 16;

  static void Add(int32_t id, size_t length, std::vector<Symbol>& symbols) {
    const auto index = static_cast<int32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, index - 1, -1, static_cast<uint32_t>(length)});
  }

  std::optional<int32_t> CharId(absl::string_view c, absl::string_view decorated) const {
    if (decorates_) return vocabulary().IdOf(decorated);
    size_t position = 0;
    const char32_t code_point = unicode::Next(c, position);
    if (code_point >= char_ids_.size() || char_ids_[code_point] < 0) return std::nullopt;
    return char_ids_[code_point];
  }

  // Cuts `piece` into characters.
  absl::Status Spell(absl::string_view piece, std::vector<Symbol>& symbols) const {
    uint32_t unknown_length = 0;  // of the unknown token that has not been added yet
    const auto flush_unknown = [&] {
      if (unknown_length > 0) Add(*unknown_id_, unknown_length, symbols);
      unknown_length = 0;
    };
    std::string decorated;
    for (size_t begin = 0; begin < piece.size();) {
      const absl::string_view c = piece.substr(begin, unicode::CharLength(piece[begin]));
      if (decorates_) {
        const bool last = begin + c.size() == piece.size();
        decorated = absl::StrCat(begin > 0 ? options_.continuing_subword_prefix : "", c,
                                 last ? options_.end_of_word_suffix : "");
      }
      begin += c.size();
      if (const std::optional<int32_t> id = CharId(c, decorated)) {
        flush_unknown();
        Add(*id, c.size(), symbols);
        continue;
      }
      const absl::string_view spelling = decorates_ ? absl::string_view(decorated) : c;
      if (std::all_of(spelling.begin(), spelling.end(), [&](char byte) {
            return byte_ids_[static_cast<uint8_t>(byte)].has_value();
          })) {
        for (const char byte : spelling) Add(*byte_ids_[static_cast<uint8_t>(byte)], 1, symbols);
        continue;
      }
      if (!options_.unknown_token.has_value()) continue;
      if (!unknown_id_.has_value()) {
        return absl::InvalidArgumentError(
            absl::StrCat("the text has an unknown character, and model.unk_token \"",
                         *options_.unknown_token, "\" is not in the vocabulary"));
      }
      if (!options_.fuse_unknown) flush_unknown();
      unknown_length += static_cast<uint32_t>(c.size());
    }
    flush_unknown();
    return absl::OkStatus();
  }

  const Merge* FindMerge(int32_t left, int32_t right) const {
    const auto merge = merges_.find(PairKey(left, right));
    return merge == merges_.end() ? nullptr : &merge->second;
  }

  void MergeAll(std::vector<Symbol>& symbols) const {
    thread_local std::vector<Candidate> heap;
    heap.clear();
    const auto candidate = [&](int32_t position) -> std::optional<Candidate> {
      const Symbol& left = symbols[position];
      if (left.next < 0) return std::nullopt;
      const Merge* merge = FindMerge(left.id, symbols[left.next].id);
      if (merge == nullptr) return std::nullopt;
      return Candidate{static_cast<uint64_t>(merge->rank) << 32 | static_cast<uint32_t>(position),
                       merge->id};
    };
    const auto push = [&](int32_t position) {
      if (const auto next = candidate(position)) {
        heap.push_back(*next);
        std::push_heap(heap.begin(), heap.end());
      }
    };
    for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) {
      if (const auto next = candidate(i)) heap.push_back(*next);
    }
    std::make_heap(heap.begin(), heap.end());
    while (!heap.empty()) {
      const Candidate top = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      const auto position = static_cast<int32_t>(top.position());
      Symbol& left = symbols[position];
      if (left.length == 0 || left.next < 0) continue;
      Symbol& right = symbols[left.next];
      // Has it expired? As in the reference, another pair that makes the same token will do.
      const Merge* merge = FindMerge(left.id, right.id);
      if (merge == nullptr || merge->id != top.id) continue;
      left.id = top.id;
      left.length += right.length;
      right.length = 0;
      left.next = right.next;
      if (left.next >= 0) symbols[left.next].previous = position;
      if (left.previous >= 0) push(left.previous);
      push(position);
    }
    if (heap.capacity() > kKeptSymbols) heap = std::vector<Candidate>();
  }

  const BytePairOptions options_;
  const MergeMap merges_;
  const bool decorates_;  // with a prefix or a suffix, characters are looked up by their spelling
  std::optional<int32_t> unknown_id_;
  std::array<std::optional<int32_t>, 256>
      byte_ids_;                   // of "<0x00>" and so on; none without byte_fallback
  std::vector<int32_t> char_ids_;  // by code point, or -1: the tokens of one character
  mutable WordCache cache_;
};

absl::StatusOr<Merges> ParseMerges(const JsonValue& json) {
  simdjson::dom::array entries;
  if (json.element().get(entries) != simdjson::SUCCESS) return json.Error("is not an array");
  Merges merges;
  size_t index = 0;
  for (const simdjson::dom::element entry : entries) {
    const size_t at = index++;
    std::string_view left, right;
    simdjson::dom::array pair;
    if (entry.get(left) == simdjson::SUCCESS) {
      const absl::string_view text(left.data(), left.size());
      if (absl::StartsWith(text, "#version")) continue;
      const std::vector<std::string> parts = absl::StrSplit(text, ' ');
      if (parts.size() != 2)
        return json.ErrorAt(absl::StrCat("[", at, "]"),
                            absl::StrCat("\"", text, "\" is not two tokens"));
      merges.emplace_back(parts[0], parts[1]);
    } else if (entry.get(pair) == simdjson::SUCCESS && pair.size() == 2 &&
               pair.at(0).get(left) == simdjson::SUCCESS &&
               pair.at(1).get(right) == simdjson::SUCCESS) {
      merges.emplace_back(left, right);
    } else {
      return json.ErrorAt(absl::StrCat("[", at, "]"), "is neither a string nor two strings");
    }
  }
  return merges;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateBytePair(Vocabulary vocabulary, const Merges& merges,
                                                      const BytePairOptions& options) {
  MergeMap map;
  map.reserve(merges.size());
  const auto id_of = [&](size_t rank, absl::string_view token) -> absl::StatusOr<int32_t> {
    if (const std::optional<int32_t> id = vocabulary.IdOf(token)) return *id;
    return absl::InvalidArgumentError(
        absl::StrCat("model.merges[", rank, "]: \"", token, "\" is not in the vocabulary"));
  };
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const size_t prefix_bytes = options.continuing_subword_prefix.size();
    if (right.size() < prefix_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.merges[", rank, "]: \"", right,
                       "\" is shorter than model.continuing_subword_prefix"));
    }
    ASSIGN_OR_RETURN(const int32_t left_id, id_of(rank, left));
    ASSIGN_OR_RETURN(const int32_t right_id, id_of(rank, right));
    ASSIGN_OR_RETURN(const int32_t id, id_of(rank, absl::StrCat(left, right.substr(prefix_bytes))));
    map.insert_or_assign(PairKey(left_id, right_id), Merge{static_cast<uint32_t>(rank), id});
  }
  return std::make_unique<BytePair>(std::move(vocabulary), std::move(map), options);
}

absl::StatusOr<std::unique_ptr<Model>> CreateBytePair(const JsonValue& json) {
  BytePairOptions options;
  if (const auto dropout = json.Find("dropout")) {
    ASSIGN_OR_RETURN(const double probability, dropout->Number());
    if (probability != 0) {
      return absl::UnimplementedError(
          absl::StrCat(dropout->path(), " ", probability, " is not supported; only 0 is"));
    }
  }
  const auto read_string = [&](absl::string_view key, std::string& value) -> absl::Status {
    if (const auto member = json.Find(key)) {
      ASSIGN_OR_RETURN(const absl::string_view text, member->String());
      value = std::string(text);
    }
    return absl::OkStatus();
  };
  if (json.Find("unk_token").has_value())
    RETURN_IF_ERROR(read_string("unk_token", options.unknown_token.emplace()));
  RETURN_IF_ERROR(read_string("continuing_subword_prefix", options.continuing_subword_prefix));
  RETURN_IF_ERROR(read_string("end_of_word_suffix", options.end_of_word_suffix));
  ASSIGN_OR_RETURN(options.fuse_unknown, json.Bool("fuse_unk", /*fallback=*/false));
  ASSIGN_OR_RETURN(options.byte_fallback, json.Bool("byte_fallback", /*fallback=*/false));
  ASSIGN_OR_RETURN(options.ignore_merges, json.Bool("ignore_merges", /*fallback=*/false));
  ASSIGN_OR_RETURN(const JsonValue vocab, json.Get("vocab"));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::FromJson(vocab));
  ASSIGN_OR_RETURN(const JsonValue merges_json, json.Get("merges"));
  ASSIGN_OR_RETURN(const Merges merges, ParseMerges(merges_json));
  return CreateBytePair(std::move(vocabulary), merges, options);
}

}  // namespace attendant::engine
