// Tokenizers of models that come without a tokenizer.json: from vocab.txt, from vocab.json and
// merges.txt, and from what a GGUF file carries. Each is made of the same parts that the
// tokenizer.json of its family names.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_pair.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_parts.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/word_piece.h"

namespace attendant::engine {
namespace {

// How the byte-level models that GGUF files name in `tokenizer.ggml.pre` cut words.
enum class Words {
  kGpt2,            // GPT-2's pattern
  kDigitsThenGpt2,  // each digit by itself, and then GPT-2's pattern
  kSplit,           // a pattern of their own
};
struct GgufPreTokenizer {
  absl::string_view name;
  Words words;
  absl::string_view pattern;
  bool ignore_merges;
};
constexpr absl::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr absl::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr GgufPreTokenizer kGgufPreTokenizers[] = {
    {"default", Words::kGpt2, "", false},
    {"gpt-2", Words::kGpt2, "", false},
    {"gpt2", Words::kGpt2, "", false},
    {"mpt", Words::kGpt2, "", false},
    {"olmo", Words::kGpt2, "", false},
    {"phi-2", Words::kGpt2, "", false},
    {"roberta-bpe", Words::kGpt2, "", false},
    {"smollm", Words::kDigitsThenGpt2, "", false},
    {"starcoder", Words::kDigitsThenGpt2, "", false},
    {"refact", Words::kDigitsThenGpt2, "", false},
    {"command-r", Words::kDigitsThenGpt2, "", false},
    {"codeshell", Words::kDigitsThenGpt2, "", false},
    {"llama-bpe", Words::kSplit, kLlama3Words, true},
    {"llama3", Words::kSplit, kLlama3Words, true},
    {"qwen2", Words::kSplit, kQwen2Words, false},
    {"deepseek-r1-qwen", Words::kSplit, kQwen2Words, false},
};

enum GgufTokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// Tokens that SentencePiece never makes of text by merging.
std::vector<AddedToken> GgufAddedTokens(const GgufVocabulary& gguf) {
  std::vector<AddedToken> added;
  for (size_t id = 0; id < gguf.token_types.size(); ++id) {
    const int32_t type = gguf.token_types[id];
    if (type != kControl && type != kUserDefined && type != kUnknown) continue;
    AddedToken token = SpecialToken(gguf.tokens[id]);
    token.special = type != kUserDefined;
    added.push_back(std::move(token));
  }
  return added;
}

// The beginning- and end-of-sequence tokens around each text.
absl::StatusOr<std::unique_ptr<PostProcessor>> GgufTemplate(const GgufVocabulary& gguf,
                                                            bool add_bos, bool add_eos) {
  const auto check = [&](const std::optional<int32_t>& id, absl::string_view name) -> absl::Status {
    if (!id.has_value() || *id < 0 || *id >= static_cast<int32_t>(gguf.tokens.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.", name, "_token_id is not one of the ", gguf.tokens.size(),
                       " tokens, but is to be added"));
    }
    return absl::OkStatus();
  };
  if (add_bos) RETURN_IF_ERROR(check(gguf.bos_id, "bos"));
  if (add_eos) RETURN_IF_ERROR(check(gguf.eos_id, "eos"));
  std::vector<TemplatePiece> pair;
  size_t single_size = 0;
  for (const int8_t sequence : {0, 1}) {
    if (add_bos) pair.push_back({*gguf.bos_id, 0, sequence});
    pair.push_back({-1, sequence, sequence});
    if (add_eos) pair.push_back({*gguf.eos_id, 0, sequence});
    if (sequence == 0) single_size = pair.size();
  }
  std::vector<TemplatePiece> single(pair.begin(), pair.begin() + static_cast<int64_t>(single_size));
  return CreateTemplateProcessing(std::move(single), std::move(pair));
}

absl::StatusOr<TokenizerParts> GgufByteLevelParts(const GgufVocabulary& gguf,
                                                  Vocabulary vocabulary) {
  const auto* row =
      std::find_if(std::begin(kGgufPreTokenizers), std::end(kGgufPreTokenizers),
                   [&](const GgufPreTokenizer& known) { return known.name == gguf.pre; });
  if (row == std::end(kGgufPreTokenizers)) {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.pre \"", gguf.pre, "\" is not supported"));
  }
  Merges merges;
  for (size_t rank = 0; rank < gguf.merges.size(); ++rank) {
    // A token may start with a space, but no token of the byte-level alphabet holds one.
    const std::pair<absl::string_view, absl::string_view> merge =
        absl::StrSplit(gguf.merges[rank], absl::MaxSplits(' ', 1));
    if (merge.first.empty() || merge.second.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.merges[", rank, "] is not two tokens"));
    }
    merges.emplace_back(merge.first, merge.second);
  }
  TokenizerParts parts;
  BytePairOptions options;
  options.ignore_merges = row->ignore_merges;
  ASSIGN_OR_RETURN(parts.model, CreateBytePair(std::move(vocabulary), merges, options));
  std::vector<std::unique_ptr<PreTokenizer>> words;
  if (row->words == Words::kDigitsThenGpt2) words.push_back(CreateDigitsPreTokenizer());
  if (row->words == Words::kSplit) {
    ASSIGN_OR_RETURN(words.emplace_back(), CreateSplitPreTokenizer(row->pattern));
  }
  words.push_back(
      CreateByteLevelPreTokenizer(/*add_prefix_space=*/gguf.add_space_prefix.value_or(false),
                                  /*use_regex=*/row->words != Words::kSplit));
  parts.pre_tokenizer = CreatePreTokenizerSequence(std::move(words));
  ASSIGN_OR_RETURN(
      parts.post_processor,
      GgufTemplate(gguf, gguf.add_bos.value_or(row->name == "llama-bpe" || row->name == "llama3"),
                   gguf.add_eos.value_or(false)));
  parts.decoder = CreateByteLevelDecoder();
  return parts;
}

// A longer token is not looked at for merges: the cuts of a token cost the square of its length.
constexpr size_t kMaxMergedBytes = 1024;

// A SentencePiece model has no list of merges, but scores: two neighbours may become any token that
// they spell, the one of the highest score first.
Merges MergesOfScores(const GgufVocabulary& gguf, const Vocabulary& vocabulary) {
  struct ScoredMerge {
    float score;
    int64_t left_chars, right_chars;
    absl::string_view left, right;
  };
  std::vector<ScoredMerge> scored;
  for (size_t id = 0; id < gguf.tokens.size(); ++id) {
    const absl::string_view token = gguf.tokens[id];
    if (token.size() > kMaxMergedBytes) continue;
    struct Cut {
      int32_t left_id, right_id;
      size_t at;
    };
    std::vector<Cut> cuts;
    for (size_t at = 1; at < token.size(); ++at) {
      if (unicode::IsContinuation(token[at])) continue;
      const auto left = vocabulary.IdOf(token.substr(0, at));
      const auto right = vocabulary.IdOf(token.substr(at));
      if (left.has_value() && right.has_value()) cuts.push_back({*left, *right, at});
    }
    std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
      return std::tie(a.left_id, a.right_id) < std::tie(b.left_id, b.right_id);
    });
    for (const Cut& cut : cuts) {
      const absl::string_view left = token.substr(0, cut.at);
      const absl::string_view right = token.substr(cut.at);
      scored.push_back(
          {gguf.scores[id], unicode::CountChars(left), unicode::CountChars(right), left, right});
    }
  }
  std::stable_sort(scored.begin(), scored.end(), [](const ScoredMerge& a, const ScoredMerge& b) {
    return std::tie(a.score, a.left_chars, a.right_chars) >
           std::tie(b.score, b.left_chars, b.right_chars);
  });
  Merges merges;
  for (const ScoredMerge& merge : scored) merges.emplace_back(merge.left, merge.right);
  return merges;
}

absl::StatusOr<TokenizerParts> GgufSentencePieceParts(const GgufVocabulary& gguf,
                                                      Vocabulary vocabulary) {
  if (gguf.scores.size() != gguf.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.scores has ", gguf.scores.size(),
                                                   " entries for ", gguf.tokens.size(), " tokens"));
  }
  const bool add_prefix = gguf.add_space_prefix.value_or(true);
  TokenizerParts parts;
  BytePairOptions options;
  options.fuse_unknown = true;
  options.byte_fallback = true;
  if (gguf.unknown_id.has_value()) {
    if (const auto token = vocabulary.TokenOf(*gguf.unknown_id))
      options.unknown_token = std::string(*token);
  }
  const Merges merges = MergesOfScores(gguf, vocabulary);
  ASSIGN_OR_RETURN(parts.model, CreateBytePair(std::move(vocabulary), merges, options));
  parts.normalizer = CreateSpaceEscapingNormalizer(add_prefix);
  ASSIGN_OR_RETURN(parts.post_processor,
                   GgufTemplate(gguf, gguf.add_bos.value_or(true), gguf.add_eos.value_or(false)));
  parts.decoder = CreateSentencePieceDecoder(add_prefix);
  return parts;
}

absl::StatusOr<TokenizerParts> GgufParts(const GgufVocabulary& gguf) {
  if (gguf.token_types.size() > gguf.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.token_type has ",
                                                   gguf.token_types.size(), " entries for ",
                                                   gguf.tokens.size(), " tokens"));
  }
  Vocabulary vocabulary;
  for (size_t id = 0; id < gguf.tokens.size(); ++id) {
    if (!unicode::IsValidUtf8(gguf.tokens[id])) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens[", id, "] is not UTF-8"));
    }
    RETURN_IF_ERROR(vocabulary.Add(gguf.tokens[id], static_cast<int32_t>(id)));
  }
  absl::StatusOr<TokenizerParts> parts;
  if (gguf.model == "gpt2") {
    parts = GgufByteLevelParts(gguf, std::move(vocabulary));
  } else if (gguf.model == "llama") {
    parts = GgufSentencePieceParts(gguf, std::move(vocabulary));
  } else {
    parts = absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.model \"", gguf.model, "\" is not supported"));
  }
  if (parts.ok()) parts->added_tokens = GgufAddedTokens(gguf);
  return parts;
}

}  // namespace

AddedToken SpecialToken(absl::string_view content) {
  AddedToken token;
  token.content = std::string(content);
  token.special = true;
  return token;
}

absl::StatusOr<Vocabulary> ParseVocabulary(absl::string_view file, absl::string_view json) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root);
      error != simdjson::SUCCESS) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is not JSON: ", simdjson::error_message(error)));
  }
  return Vocabulary::FromJson(JsonValue(root, std::string(file)));
}

absl::StatusOr<TokenizerParts> WordPieceParts(absl::string_view vocab_txt,
                                              const WordPieceOptions& options) {
  if (!unicode::IsValidUtf8(vocab_txt)) return absl::InvalidArgumentError("is not UTF-8");
  Vocabulary vocabulary;
  absl::ConsumeSuffix(&vocab_txt, "\n");
  int32_t id = 0;
  for (absl::string_view line : absl::StrSplit(vocab_txt, '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    RETURN_IF_ERROR(vocabulary.Add(line, id++));
  }
  const std::optional<int32_t> cls = vocabulary.IdOf(options.cls_token);
  const std::optional<int32_t> sep = vocabulary.IdOf(options.sep_token);
  if (!cls.has_value() || !sep.has_value() || !vocabulary.IdOf(options.unknown_token).has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("lacks one of ", options.cls_token, ", ",
                                                   options.sep_token, " and ",
                                                   options.unknown_token));
  }
  TokenizerParts parts;
  for (const std::string* token :
       {&options.pad_token, &options.unknown_token, &options.cls_token, &options.sep_token}) {
    if (vocabulary.IdOf(*token).has_value()) parts.added_tokens.push_back(SpecialToken(*token));
  }
  if (vocabulary.IdOf(options.mask_token).has_value()) {
    AddedToken mask = SpecialToken(options.mask_token);
    mask.lstrip = options.mask_takes_space;
    parts.added_tokens.push_back(std::move(mask));
  }
  BertNormalizerOptions normalizer;
  normalizer.handle_chinese_chars = options.tokenize_chinese_chars;
  normalizer.lowercase = options.lowercase;
  normalizer.strip_accents = options.strip_accents.value_or(options.lowercase);
  parts.normalizer = CreateBertNormalizer(normalizer);
  parts.pre_tokenizer = CreateBertPreTokenizer();
  WordPieceModelOptions model;
  model.unknown_token = options.unknown_token;
  ASSIGN_OR_RETURN(parts.model, CreateWordPiece(std::move(vocabulary), model));
  std::vector<TemplatePiece> pair = {{*cls}, {-1, 0}, {*sep}};
  if (options.separates_twice) pair.push_back({*sep});
  pair.insert(pair.end(), {{-1, 1, 1}, {*sep, 0, 1}});
  parts.post_processor = CreateTemplateProcessing({{*cls}, {-1, 0}, {*sep}}, std::move(pair));
  parts.decoder = CreateWordPieceDecoder("##", /*cleanup=*/true);
  return parts;
}

absl::StatusOr<TokenizerParts> ByteLevelParts(absl::string_view vocab_json,
                                              absl::string_view merges_txt,
                                              const ByteLevelOptions& options) {
  ASSIGN_OR_RETURN(Vocabulary vocabulary, ParseVocabulary("vocab.json", vocab_json));
  if (!unicode::IsValidUtf8(merges_txt))
    return absl::InvalidArgumentError("merges.txt is not UTF-8");
  Merges merges;
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(merges_txt, '\n')) {
    ++line_number;
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty() || absl::StartsWith(line, "#version")) continue;
    const std::pair<absl::string_view, absl::string_view> merge =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (merge.second.empty() || absl::StrContains(merge.second, ' ')) {
      return absl::InvalidArgumentError(
          absl::StrCat("merges.txt:", line_number, " is not two tokens"));
    }
    merges.emplace_back(merge.first, merge.second);
  }
  TokenizerParts parts;
  for (const AddedToken& token : options.special_tokens) {
    if (vocabulary.IdOf(token.content).has_value()) parts.added_tokens.push_back(token);
  }
  if (options.frame.has_value()) {
    const std::optional<int32_t> cls = vocabulary.IdOf(options.frame->cls_token);
    const std::optional<int32_t> sep = vocabulary.IdOf(options.frame->sep_token);
    if (!cls.has_value() || !sep.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("vocab.json lacks ", options.frame->cls_token,
                                                     " or ", options.frame->sep_token));
    }
    parts.post_processor =
        CreateRobertaProcessing(*cls, *sep, options.frame->trim_offsets, options.add_prefix_space);
  }
  ASSIGN_OR_RETURN(parts.model, CreateBytePair(std::move(vocabulary), merges, BytePairOptions()));
  parts.pre_tokenizer = CreateByteLevelPreTokenizer(options.add_prefix_space, /*use_regex=*/true);
  parts.decoder = CreateByteLevelDecoder();
  return parts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateWordPieceTokenizer(absl::string_view vocab_txt,
                                                                    const WordPieceOptions& options,
                                                                    absl::string_view source) {
  return PipelineTokenizer::Create(WordPieceParts(vocab_txt, options), source);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpeTokenizer(absl::string_view vocab_json,
                                                                       absl::string_view merges_txt,
                                                                       absl::string_view source) {
  return PipelineTokenizer::Create(ByteLevelParts(vocab_json, merges_txt, ByteLevelOptions()),
                                   source);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateGgufTokenizer(const GgufVocabulary& vocabulary,
                                                               absl::string_view source) {
  return PipelineTokenizer::Create(GgufParts(vocabulary), source);
}

}  // namespace attendant::engine
