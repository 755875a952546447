#include "engine/tokenizer/unigram.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/token_trie.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

constexpr double kUnknownPenalty = 10.0;

TokenTrie MakeTrie(const Vocabulary& vocabulary) {
  std::vector<std::pair<absl::string_view, int32_t>> tokens;
  for (const auto& [token, id] : vocabulary.ids()) {
    if (!token.empty() && token.size() <= TokenTrie::kMaxTokenBytes) tokens.emplace_back(token, id);
  }
  return TokenTrie(std::move(tokens));
}

class Unigram : public Model {
 public:
  Unigram(Vocabulary vocabulary, std::vector<double> scores, std::optional<int32_t> unknown_id,
          bool byte_fallback)
      : Model(std::move(vocabulary)),
        scores_(std::move(scores)),
        unknown_score_((scores_.empty() ? 0 : *std::min_element(scores_.begin(), scores_.end())) -
                       kUnknownPenalty),
        unknown_id_(unknown_id),
        trie_(MakeTrie(this->vocabulary())) {
    for (int byte = 0; byte < 256; ++byte) {
      if (byte_fallback)
        byte_ids_[byte] = this->vocabulary().IdOf(absl::StrFormat("<0x%02X>", byte));
    }
  }

  absl::string_view kind() const override { return "Unigram"; }
  bool IsCalledByText(int32_t id) const override { return id == unknown_id_; }
  int32_t size() const override { return static_cast<int32_t>(scores_.size()); }

  absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const override {
    // The best path to each byte: what it scores, and its last token.
    struct Node {
      double score = 0;
      uint32_t begin = kUnreached;
      int32_t id = 0;
    };
    thread_local std::vector<Node> nodes;
    nodes.assign(piece.size() + 1, Node());
    const auto reach = [&](size_t begin, size_t end, int32_t id, double score) {
      Node& node = nodes[end];
      if (node.begin != kUnreached && score <= node.score) return;
      node = {score, static_cast<uint32_t>(begin), id};
    };
    for (size_t begin = 0; begin < piece.size();) {
      const double score = nodes[begin].score;
      const size_t char_length = unicode::CharLength(piece[begin]);
      bool has_char = false;
      trie_.VisitPrefixes(piece.substr(begin), [&](size_t length, int32_t id) {
        reach(begin, begin + length, id, score + scores_[id]);
        has_char |= length == char_length;
      });
      if (!has_char) {
        if (!unknown_id_.has_value()) return NoUnknownId();
        reach(begin, begin + char_length, *unknown_id_, score + unknown_score_);
      }
      begin += char_length;
    }

    // Back along the best path; tokens in a row that are unknown are one.
    const size_t before = tokens.size();
    for (size_t end = piece.size(); end > 0; end = nodes[end].begin) {
      const Token token = {nodes[end].id, nodes[end].begin, static_cast<uint32_t>(end)};
      if (token.id == unknown_id_ && tokens.size() > before && tokens.back().id == unknown_id_) {
        tokens.back().begin = token.begin;
      } else {
        tokens.push_back(token);
      }
    }
    std::reverse(tokens.begin() + static_cast<int64_t>(before), tokens.end());
    // A surface that is a token, though it was not reached as one: unknown characters that were
    // joined.
    thread_local std::vector<Token> path;
    path.assign(tokens.begin() + static_cast<int64_t>(before), tokens.end());
    tokens.resize(before);
    for (const Token& token : path) RETURN_IF_ERROR(AppendToken(piece, token, tokens));
    if (nodes.capacity() > kKeptNodes) nodes = std::vector<Node>();
    return absl::OkStatus();
  }

 private:
  static constexpr uint32_t kUnreached = std::numeric_limits<uint32_t>::max();
  static constexpr size_t kKeptNodes = 1 << 16;

  static absl::Status NoUnknownId() {
    return absl::InvalidArgumentError(
        "the text has an unknown character, and the model has no model.unk_id");
  }

  absl::Status AppendToken(absl::string_view piece, const Token& token,
                           std::vector<Token>& tokens) const {
    if (token.id != unknown_id_) {
      tokens.push_back(token);
      return absl::OkStatus();
    }
    const absl::string_view surface = piece.substr(token.begin, token.end - token.begin);
    if (const std::optional<int32_t> id = vocabulary().IdOf(surface)) {
      tokens.push_back({*id, token.begin, token.end});
      return absl::OkStatus();
    }
    const bool all_bytes = std::all_of(surface.begin(), surface.end(), [&](char byte) {
      return byte_ids_[static_cast<uint8_t>(byte)].has_value();
    });
    if (!all_bytes) {
      tokens.push_back(token);
      return absl::OkStatus();
    }
    for (const char byte : surface)
      tokens.push_back({*byte_ids_[static_cast<uint8_t>(byte)], token.begin, token.end});
    return absl::OkStatus();
  }

  const std::vector<double> scores_;  // by id
  const double unknown_score_;
  const std::optional<int32_t> unknown_id_;
  const TokenTrie trie_;
  std::array<std::optional<int32_t>, 256>
      byte_ids_;  // of "<0x00>" and so on; none without byte_fallback
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateUnigram(const JsonValue& json) {
  ASSIGN_OR_RETURN(const JsonValue vocab, json.Get("vocab"));
  simdjson::dom::array entries;
  if (vocab.element().get(entries) != simdjson::SUCCESS) return vocab.Error("is not an array");
  Vocabulary vocabulary;
  std::vector<double> scores;
  for (const simdjson::dom::element entry : entries) {
    simdjson::dom::array pair;
    std::string_view token;
    double score = 0;
    if (entry.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
        pair.at(0).get(token) != simdjson::SUCCESS || pair.at(1).get(score) != simdjson::SUCCESS) {
      return vocab.ErrorAt(absl::StrCat("[", scores.size(), "]"),
                           "is not a pair of a token and its score");
    }
    RETURN_IF_ERROR(vocabulary.Add(absl::string_view(token.data(), token.size()),
                                   static_cast<int32_t>(scores.size())));
    scores.push_back(score);
  }
  std::optional<int32_t> unknown_id;
  if (const auto value = json.Find("unk_id")) {
    ASSIGN_OR_RETURN(unknown_id, value->Integer(0, static_cast<int64_t>(scores.size()) - 1));
  }
  ASSIGN_OR_RETURN(const bool byte_fallback, json.Bool("byte_fallback", /*fallback=*/false));
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), unknown_id,
                                   byte_fallback);
}

}  // namespace attendant::engine
