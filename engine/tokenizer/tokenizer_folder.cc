#include "engine/tokenizer/tokenizer_folder.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/sentence_piece.h"
#include "engine/tokenizer/sentence_pieces.h"
#include "engine/tokenizer/tokenizer_parts.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kConfigFile = "tokenizer_config.json";

// The languages of fairseq's models, in the order of their tokens, which follow the vocabulary.
constexpr absl::string_view kM2m100Languages[] = {
    "af", "am", "ar", "ast", "az", "ba", "be", "bg", "bn", "br",  "bs", "ca", "ceb", "cs", "cy",
    "da", "de", "el", "en",  "es", "et", "fa", "ff", "fi", "fr",  "fy", "ga", "gd",  "gl", "gu",
    "ha", "he", "hi", "hr",  "ht", "hu", "hy", "id", "ig", "ilo", "is", "it", "ja",  "jv", "ka",
    "kk", "km", "kn", "ko",  "lb", "lg", "ln", "lo", "lt", "lv",  "mg", "mk", "ml",  "mn", "mr",
    "ms", "my", "ne", "nl",  "no", "ns", "oc", "or", "pa", "pl",  "ps", "pt", "ro",  "ru", "sd",
    "si", "sk", "sl", "so",  "sq", "sr", "ss", "su", "sv", "sw",  "ta", "th", "tl",  "tn", "tr",
    "uk", "ur", "uz", "vi",  "wo", "xh", "yi", "yo", "zh", "zu"};
constexpr absl::string_view kWmt21Languages[] = {"en", "ha", "is", "ja", "cs", "ru", "zh", "de"};
constexpr absl::string_view kMbart50Languages[] = {
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN",
    "hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP",
    "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN", "af_ZA", "az_AZ",
    "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK", "ml_IN",
    "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN",
    "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI"};
constexpr auto kMbartLanguages = absl::MakeConstSpan(kMbart50Languages).first(25);

enum class Family {
  kOther,
  kRoberta,
  kMpnet,
  kAlbert,
  kT5,
  kXlmRoberta,
  kMbart,
  kMbart50,
  kM2m100,
  kNllb,
  kMarian,
};

struct FamilyName {
  absl::string_view name;
  Family family;
};
constexpr FamilyName kTokenizerClasses[] = {
    {"RobertaTokenizer", Family::kRoberta},
    {"BartTokenizer", Family::kRoberta},
    {"MPNetTokenizer", Family::kMpnet},
    {"AlbertTokenizer", Family::kAlbert},
    {"T5Tokenizer", Family::kT5},
    {"XLMRobertaTokenizer", Family::kXlmRoberta},
    {"MBartTokenizer", Family::kMbart},
    {"MBart50Tokenizer", Family::kMbart50},
    {"M2M100Tokenizer", Family::kM2m100},
    {"NllbTokenizer", Family::kNllb},
    {"MarianTokenizer", Family::kMarian},
    {"BertTokenizer", Family::kOther},
    {"DistilBertTokenizer", Family::kOther},
    {"GPT2Tokenizer", Family::kOther},
    {"LlamaTokenizer", Family::kOther},
};
constexpr FamilyName kModelTypes[] = {
    {"roberta", Family::kRoberta}, {"bart", Family::kRoberta},
    {"mpnet", Family::kMpnet},     {"albert", Family::kAlbert},
    {"t5", Family::kT5},           {"mt5", Family::kT5},
    {"mbart", Family::kMbart},     {"xlm-roberta", Family::kXlmRoberta},
    {"m2m_100", Family::kM2m100},  {"marian", Family::kMarian},
};

// tokenizer_config.json; without it, everything is at its default.
class Config {
 public:
  static absl::StatusOr<Config> Read(const TokenizerFolder& folder) {
    Config config;
    ASSIGN_OR_RETURN(const std::optional<std::string> json, folder.read(kConfigFile));
    if (!json.has_value()) return config;
    config.parser_ = std::make_unique<simdjson::dom::parser>();
    simdjson::dom::element root;
    if (const auto error = config.parser_->parse(*json).get(root); error != simdjson::SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat("is not JSON: ", simdjson::error_message(error)));
    }
    config.root_.emplace(root, std::string(kConfigFile));
    if (!root.is_object()) return config.root_->Error("is not an object");
    return config;
  }

  std::optional<JsonValue> Find(absl::string_view key) const {
    return root_.has_value() ? root_->Find(key) : std::nullopt;
  }
  absl::StatusOr<bool> Bool(absl::string_view key, bool fallback) const {
    const auto value = Find(key);
    return value.has_value() ? value->Bool() : fallback;
  }
  absl::StatusOr<std::string> String(absl::string_view key, absl::string_view fallback) const {
    const auto value = Find(key);
    if (!value.has_value()) return std::string(fallback);
    return Content(*value);
  }

  // "additional_special_tokens": a list, by either of its names.
  absl::StatusOr<std::vector<std::string>> MoreSpecialTokens() const {
    std::vector<std::string> tokens;
    for (const absl::string_view key : {"additional_special_tokens", "extra_special_tokens"}) {
      const auto list = Find(key);
      if (!list.has_value() || !list->element().is_array()) continue;
      ASSIGN_OR_RETURN(const std::vector<JsonValue> values, list->Array());
      for (const JsonValue& value : values) {
        ASSIGN_OR_RETURN(tokens.emplace_back(), Content(value));
      }
    }
    return tokens;
  }

  // "added_tokens_decoder": {"250001": {"content": "<mask>", "lstrip": true, ...}, ...}, by id.
  absl::StatusOr<absl::btree_map<int32_t, AddedToken>> AddedTokensById() const {
    absl::btree_map<int32_t, AddedToken> tokens;
    const auto json = Find("added_tokens_decoder");
    if (!json.has_value()) return tokens;
    simdjson::dom::object object;
    if (json->element().get(object) != simdjson::SUCCESS) return json->Error("is not an object");
    for (const auto& [key, element] : object) {
      const absl::string_view name(key.data(), key.size());
      int32_t id = 0;
      if (!absl::SimpleAtoi(name, &id) || id < 0)
        return json->ErrorAt(absl::StrCat("[\"", name, "\"]"), "is not named by a token id");
      ASSIGN_OR_RETURN(tokens[id],
                       ParseAddedToken(JsonValue(element, absl::StrCat(json->path(), ".", name))));
    }
    return tokens;
  }

 private:
  // A token as its text, or as {"content": its text, ...}.
  static absl::StatusOr<std::string> Content(const JsonValue& value) {
    ASSIGN_OR_RETURN(const absl::string_view content,
                     value.element().is_object() ? value.String("content") : value.String());
    return std::string(content);
  }

  std::unique_ptr<simdjson::dom::parser> parser_;
  std::optional<JsonValue> root_;
};

absl::StatusOr<Family> FamilyOf(const TokenizerFolder& folder, const Config& config) {
  ASSIGN_OR_RETURN(const std::string class_name, config.String("tokenizer_class", ""));
  for (const FamilyName& row : kTokenizerClasses) {
    if (absl::StripSuffix(class_name, "Fast") == row.name) return row.family;
  }
  for (const FamilyName& row : kModelTypes) {
    if (folder.model_type == row.name) return row.family;
  }
  return Family::kOther;
}

// Adds the tokens that the configuration names to those of the family, and gives them its flags.
absl::Status AddConfiguredTokens(const Config& config, std::vector<AddedToken>& tokens) {
  const auto find = [&](absl::string_view content) {
    return std::find_if(tokens.begin(), tokens.end(),
                        [&](const AddedToken& token) { return token.content == content; });
  };
  ASSIGN_OR_RETURN(const auto by_id, config.AddedTokensById());
  for (const auto& [id, token] : by_id) {
    if (const auto known = find(token.content); known != tokens.end()) {
      *known = token;
    } else {
      tokens.push_back(token);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> more, config.MoreSpecialTokens());
  for (const std::string& content : more) {
    if (content.size() > TokenTrie::kMaxTokenBytes) {
      return absl::InvalidArgumentError(absl::StrCat(kConfigFile, ": a special token has ",
                                                     content.size(), " bytes; the limit is ",
                                                     TokenTrie::kMaxTokenBytes));
    }
    if (find(content) == tokens.end()) tokens.push_back(SpecialToken(content));
  }
  return absl::OkStatus();
}

// Languages.

// How the languages of a family are spelled in its vocabulary, and told.
struct LanguageRules {
  absl::string_view before, after;  // "__" "en" "__"
  bool (*is_code)(absl::string_view code);
  bool are_special;  // only among the special tokens
  Languages::Target target;
  absl::string_view default_source;  // empty if sources name no language
  bool source_first;                 // the source's language stands before it, not behind
};

bool All(absl::string_view text, bool (*holds)(unsigned char)) {
  return std::all_of(text.begin(), text.end(), [&](char c) { return holds(c); });
}

// The rules of `family`; nothing for one without languages.
absl::StatusOr<std::optional<LanguageRules>> RulesOf(Family family, const Config& config) {
  using Target = Languages::Target;
  switch (family) {
    case Family::kMarian:
      return LanguageRules{">>",
                           "<<",
                           [](absl::string_view code) { return !code.empty(); },
                           false,
                           Target::kInSource,
                           "",
                           false};
    case Family::kM2m100:
      return LanguageRules{"__",
                           "__",
                           [](absl::string_view code) {
                             return code.size() >= 2 && code.size() <= 3 &&
                                    All(code, absl::ascii_islower);
                           },
                           true,
                           Target::kFirstToken,
                           "en",
                           true};
    case Family::kNllb: {
      ASSIGN_OR_RETURN(const bool legacy, config.Bool("legacy_behaviour", /*fallback=*/false));
      return LanguageRules{"",
                           "",
                           [](absl::string_view code) {  // eng_Latn
                             return code.size() == 8 &&
                                    All(code.substr(0, 3), absl::ascii_islower) && code[3] == '_' &&
                                    absl::ascii_isupper(code[4]) &&
                                    All(code.substr(5), absl::ascii_islower);
                           },
                           true,
                           Target::kFirstToken,
                           "eng_Latn",
                           !legacy};
    }
    case Family::kMbart:
    case Family::kMbart50: {
      const bool is_50 = family == Family::kMbart50;
      return LanguageRules{"",
                           "",
                           [](absl::string_view code) {  // en_XX
                             return code.size() == 5 &&
                                    All(code.substr(0, 2), absl::ascii_islower) && code[2] == '_' &&
                                    All(code.substr(3), absl::ascii_isupper);
                           },
                           true,
                           is_50 ? Target::kFirstToken : Target::kDecoderStart,
                           "en_XX",
                           is_50};
    }
    default:
      return std::nullopt;
  }
}

// Arranges that `parts` find the languages of the finished tokenizer.
absl::Status AddLanguages(Family family, const Config& config, TokenizerParts& parts) {
  ASSIGN_OR_RETURN(const std::optional<LanguageRules> rules, RulesOf(family, config));
  if (!rules.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string source, config.String("src_lang", rules->default_source));
  ASSIGN_OR_RETURN(const std::string target, config.String("tgt_lang", ""));
  ASSIGN_OR_RETURN(const std::string eos_token, config.String("eos_token", "</s>"));
  parts.find_languages =
      [rules = *rules, source, target,
       eos_token](const Tokenizer& tokenizer) -> absl::StatusOr<std::optional<SourceLanguages>> {
    SourceLanguages found;
    Languages& languages = found.languages;
    languages.target = rules.target;
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (rules.are_special && !tokenizer.IsSpecial(id)) continue;
      const std::optional<std::string> token = tokenizer.IdToToken(id);
      if (!token.has_value() || token->size() < rules.before.size() + rules.after.size()) continue;
      absl::string_view code = *token;
      if (absl::ConsumePrefix(&code, rules.before) && absl::ConsumeSuffix(&code, rules.after) &&
          rules.is_code(code)) {
        languages.ids[code] = id;
      }
    }
    if (languages.ids.empty()) return std::nullopt;
    const std::optional<int32_t> eos = tokenizer.TokenToId(eos_token);
    if (!eos.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("lacks the end-of-text token \"", eos_token, "\""));
    }
    const TemplatePiece text;
    const bool is_marian = rules.target == Languages::Target::kInSource;
    if (!rules.default_source.empty()) languages.default_source = source;
    // Marian's configurations name languages ("eng") that are no tokens.
    if (!is_marian && !target.empty()) {
      RETURN_IF_ERROR(languages.IdOf("tgt_lang", target).status());
      languages.default_target = target;
    }
    if (is_marian) {
      found.frame = {{SourceLanguages::kTarget}, text, {*eos}};
    } else if (rules.source_first) {
      found.frame = {{SourceLanguages::kSource}, text, {*eos}};
    } else {
      found.frame = {text, {*eos}, {SourceLanguages::kSource}};
    }
    return found;
  };
  return absl::OkStatus();
}

// SentencePiece files.

absl::StatusOr<std::unique_ptr<Normalizer>> AlbertNormalizer(const Config& config,
                                                             std::unique_ptr<Normalizer> last) {
  ASSIGN_OR_RETURN(const bool lowercase, config.Bool("do_lower_case", /*fallback=*/true));
  ASSIGN_OR_RETURN(const bool keep_accents, config.Bool("keep_accents", /*fallback=*/false));
  std::string json = R"([{"type":"Replace","pattern":{"String":"``"},"content":"\""},)"
                     R"({"type":"Replace","pattern":{"String":"''"},"content":"\""})";
  if (!keep_accents) absl::StrAppend(&json, R"(,{"type":"NFKD"},{"type":"StripAccents"})");
  if (lowercase) absl::StrAppend(&json, R"(,{"type":"Lowercase"})");
  json += ']';
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(json).get(root) != simdjson::SUCCESS)
    return absl::InternalError("the normalizer of ALBERT is not JSON");
  ASSIGN_OR_RETURN(const std::vector<JsonValue> values, JsonValue(root, "").Array());
  std::vector<std::unique_ptr<Normalizer>> parts;
  for (const JsonValue& value : values) {
    ASSIGN_OR_RETURN(parts.emplace_back(), CreateNormalizer(value));
  }
  parts.push_back(std::move(last));
  return CreateNormalizerSequence(std::move(parts));
}

std::unique_ptr<Decoder> CreateMetaspaceDecoder() {
  simdjson::dom::parser parser;
  const simdjson::dom::element root = parser.parse(
      std::string(R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always"})"));
  return *CreateDecoder(JsonValue(root, ""));
}

// The vocabulary that fairseq makes of a SentencePiece model: its own four specials instead of the
// first three pieces, then the others, `languages` and `mask_token`.
absl::StatusOr<Vocabulary> FairseqVocabulary(const SentencePieces& pieces,
                                             absl::Span<const absl::string_view> languages,
                                             absl::string_view mask_token) {
  constexpr size_t kReplaced = 3;
  if (pieces.pieces().size() < kReplaced) {
    return absl::InvalidArgumentError(absl::StrCat("has ", pieces.pieces().size(),
                                                   " pieces; it must have ", kReplaced,
                                                   " special ones and more"));
  }
  Vocabulary vocabulary;
  int32_t id = 0;
  for (const absl::string_view token : {"<s>", "<pad>", "</s>", "<unk>"})
    RETURN_IF_ERROR(vocabulary.Add(token, id++));
  for (size_t i = kReplaced; i < pieces.pieces().size(); ++i)
    RETURN_IF_ERROR(vocabulary.Add(pieces.pieces()[i].text, id++));
  for (const absl::string_view language : languages)
    RETURN_IF_ERROR(vocabulary.Add(language, id++));
  if (!mask_token.empty()) RETURN_IF_ERROR(vocabulary.Add(mask_token, id++));
  return vocabulary;
}

absl::StatusOr<Vocabulary> PiecesVocabulary(const SentencePieces& pieces) {
  Vocabulary vocabulary;
  int32_t id = 0;
  for (const SentencePieces::Piece& piece : pieces.pieces())
    RETURN_IF_ERROR(vocabulary.Add(piece.text, id++));
  return vocabulary;
}

// The names of special tokens, as the family has them or the configuration says.
struct SpecialNames {
  std::string bos, eos, unknown, sep, pad, cls, mask;

  static absl::StatusOr<SpecialNames> Read(const Config& config, const SpecialNames& family) {
    SpecialNames names;
    ASSIGN_OR_RETURN(names.bos, config.String("bos_token", family.bos));
    ASSIGN_OR_RETURN(names.eos, config.String("eos_token", family.eos));
    ASSIGN_OR_RETURN(names.unknown, config.String("unk_token", family.unknown));
    ASSIGN_OR_RETURN(names.sep, config.String("sep_token", family.sep));
    ASSIGN_OR_RETURN(names.pad, config.String("pad_token", family.pad));
    ASSIGN_OR_RETURN(names.cls, config.String("cls_token", family.cls));
    ASSIGN_OR_RETURN(names.mask, config.String("mask_token", family.mask));
    return names;
  }

  // Those that are there, each once, in the order in which transformers adds them.
  std::vector<AddedToken> AddedTokens() const {
    std::vector<AddedToken> tokens;
    for (const std::string* name : {&bos, &eos, &unknown, &sep, &pad, &cls, &mask}) {
      if (name->empty() || std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& token) {
            return token.content == *name;
          })) {
        continue;
      }
      tokens.push_back(SpecialToken(*name));
      tokens.back().lstrip = name == &mask;
    }
    return tokens;
  }
};

absl::StatusOr<int32_t> IdOf(const Vocabulary& vocabulary, absl::string_view token) {
  if (const std::optional<int32_t> id = vocabulary.IdOf(token)) return *id;
  return absl::InvalidArgumentError(absl::StrCat("the vocabulary lacks \"", token, "\""));
}

// `vocab_json`: of m2m_100, its vocab.json.
absl::StatusOr<TokenizerParts> SentencePieceParts(Family family, const Config& config,
                                                  absl::string_view model,
                                                  const std::optional<std::string>& vocab_json) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const SentencePieces> pieces,
                   SentencePieces::Parse(model));
  TokenizerParts parts;
  parts.normalizer = CreateSentencePieceNormalizer(pieces);
  parts.decoder = CreateMetaspaceDecoder();
  SpecialNames names = {.bos = "<s>",
                        .eos = "</s>",
                        .unknown = "<unk>",
                        .sep = "</s>",
                        .pad = "<pad>",
                        .cls = "<s>",
                        .mask = "<mask>"};
  const TemplatePiece first = {-1, 0, 0};
  const TemplatePiece second = {-1, 1, 0};
  Vocabulary vocabulary;
  switch (family) {
    case Family::kT5: {
      names = {.eos = "</s>", .unknown = "<unk>", .pad = "<pad>"};
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      parts.added_tokens = names.AddedTokens();
      ASSIGN_OR_RETURN(vocabulary, PiecesVocabulary(*pieces));
      int64_t extra_ids = 100;
      if (const auto value = config.Find("extra_ids")) {
        ASSIGN_OR_RETURN(extra_ids, value->Integer(0, 10000));
      }
      // The sentinels go downwards.
      while (extra_ids-- > 0) {
        const std::string token = absl::StrCat("<extra_id_", extra_ids, ">");
        if (!vocabulary.IdOf(token).has_value())
          RETURN_IF_ERROR(vocabulary.Add(token, vocabulary.end_id()));
        parts.added_tokens.push_back(SpecialToken(token));
      }
      ASSIGN_OR_RETURN(const int32_t eos, IdOf(vocabulary, names.eos));
      parts.post_processor =
          CreateTemplateProcessing({first, {eos}}, {first, {eos}, second, {eos}});
      break;
    }
    case Family::kAlbert: {
      names = {.bos = "[CLS]",
               .eos = "[SEP]",
               .unknown = "<unk>",
               .sep = "[SEP]",
               .pad = "<pad>",
               .cls = "[CLS]",
               .mask = "[MASK]"};
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      ASSIGN_OR_RETURN(parts.normalizer, AlbertNormalizer(config, std::move(parts.normalizer)));
      ASSIGN_OR_RETURN(vocabulary, PiecesVocabulary(*pieces));
      ASSIGN_OR_RETURN(const int32_t cls, IdOf(vocabulary, names.cls));
      ASSIGN_OR_RETURN(const int32_t sep, IdOf(vocabulary, names.sep));
      parts.added_tokens = names.AddedTokens();
      parts.post_processor = CreateTemplateProcessing(
          {{cls}, first, {sep}}, {{cls}, first, {sep}, {-1, 1, 1}, {sep, 0, 1}});
      break;
    }
    case Family::kXlmRoberta: {
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      ASSIGN_OR_RETURN(vocabulary, FairseqVocabulary(*pieces, {}, names.mask));
      ASSIGN_OR_RETURN(const int32_t cls, IdOf(vocabulary, names.cls));
      ASSIGN_OR_RETURN(const int32_t sep, IdOf(vocabulary, names.sep));
      parts.added_tokens = names.AddedTokens();
      parts.post_processor = CreateTemplateProcessing({{cls}, first, {sep}},
                                                      {{cls}, first, {sep}, {sep}, second, {sep}});
      break;
    }
    case Family::kMbart:
    case Family::kMbart50:
    case Family::kNllb: {
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      parts.added_tokens = names.AddedTokens();
      if (family == Family::kNllb) {  // whose languages and mask the configuration adds
        ASSIGN_OR_RETURN(vocabulary, FairseqVocabulary(*pieces, {}, ""));
        break;
      }
      const absl::Span<const absl::string_view> languages =
          family == Family::kMbart ? kMbartLanguages : absl::MakeConstSpan(kMbart50Languages);
      ASSIGN_OR_RETURN(vocabulary, FairseqVocabulary(*pieces, languages, names.mask));
      for (const absl::string_view language : languages)
        parts.added_tokens.push_back(SpecialToken(language));
      break;
    }
    case Family::kM2m100: {
      names.mask = names.cls = "";
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      parts.added_tokens = names.AddedTokens();
      if (!vocab_json.has_value())
        return absl::InvalidArgumentError("vocab.json is absent, which gives its pieces their ids");
      ASSIGN_OR_RETURN(vocabulary, ParseVocabulary("vocab.json", *vocab_json));
      ASSIGN_OR_RETURN(const std::string set, config.String("language_codes", "m2m100"));
      if (set != "m2m100" && set != "wmt21") {
        return absl::InvalidArgumentError(
            absl::StrCat(kConfigFile, ": language_codes is \"", set, "\"; it is m2m100 or wmt21"));
      }
      const int32_t begin = vocabulary.size();
      const absl::Span<const absl::string_view> languages =
          set == "wmt21" ? absl::MakeConstSpan(kWmt21Languages)
                         : absl::MakeConstSpan(kM2m100Languages);
      for (size_t i = 0; i < languages.size(); ++i) {
        const std::string token = absl::StrCat("__", languages[i], "__");
        RETURN_IF_ERROR(vocabulary.Add(token, begin + static_cast<int32_t>(i)));
        parts.added_tokens.push_back(SpecialToken(token));
      }
      break;
    }
    default: {
      names = {.bos = "<s>", .eos = "</s>", .unknown = "<unk>"};
      ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
      parts.added_tokens = names.AddedTokens();
      ASSIGN_OR_RETURN(vocabulary, PiecesVocabulary(*pieces));
      ASSIGN_OR_RETURN(const bool add_bos, config.Bool("add_bos_token", /*fallback=*/true));
      ASSIGN_OR_RETURN(const bool add_eos, config.Bool("add_eos_token", /*fallback=*/false));
      std::vector<TemplatePiece> before, after;
      if (add_bos) {
        ASSIGN_OR_RETURN(before.emplace_back().id, IdOf(vocabulary, names.bos));
      }
      if (add_eos) {
        ASSIGN_OR_RETURN(after.emplace_back().id, IdOf(vocabulary, names.eos));
      }
      std::vector<TemplatePiece> single = before;
      single.push_back(first);
      single.insert(single.end(), after.begin(), after.end());
      std::vector<TemplatePiece> pair = single;
      pair.insert(pair.end(), before.begin(), before.end());
      pair.push_back(second);
      pair.insert(pair.end(), after.begin(), after.end());
      parts.post_processor = CreateTemplateProcessing(std::move(single), std::move(pair));
      break;
    }
  }
  RETURN_IF_ERROR(AddConfiguredTokens(config, parts.added_tokens));
  if (family == Family::kM2m100 || family == Family::kOther) {
    SentencePieceDecoderOptions decoder;
    decoder.strip = family == Family::kM2m100;
    for (const AddedToken& token : parts.added_tokens)
      decoder.special_tokens.push_back(token.content);
    parts.decoder = CreateSentencePiecesDecoder(pieces, std::move(decoder));
  }
  RETURN_IF_ERROR(AddLanguages(family, config, parts));
  ASSIGN_OR_RETURN(parts.model,
                   CreateSentencePieceModel(pieces, std::move(vocabulary), names.unknown));
  return parts;
}

absl::StatusOr<TokenizerParts> MarianParts(const Config& config, absl::string_view model,
                                           absl::string_view vocab_file,
                                           absl::string_view vocab_json) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const SentencePieces> pieces,
                   SentencePieces::Parse(model));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, ParseVocabulary(vocab_file, vocab_json));
  SpecialNames names = {.eos = "</s>", .unknown = "<unk>", .pad = "<pad>"};
  ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
  ASSIGN_OR_RETURN(const int32_t unknown_id, IdOf(vocabulary, names.unknown));
  ASSIGN_OR_RETURN(const int32_t eos, IdOf(vocabulary, names.eos));
  absl::flat_hash_map<std::string, int32_t> languages;
  for (const auto& [token, id] : vocabulary.ids()) {
    if (token.size() > 4 && absl::StartsWith(token, ">>") && absl::EndsWith(token, "<<"))
      languages[token] = id;
  }
  TokenizerParts parts;
  parts.added_tokens = names.AddedTokens();
  RETURN_IF_ERROR(AddConfiguredTokens(config, parts.added_tokens));
  parts.pre_tokenizer = CreateMarianPreTokenizer(std::move(languages), unknown_id,
                                                 CreateSentencePieceNormalizer(pieces));
  SentencePieceDecoderOptions decoder;
  parts.post_processor = CreateTemplateProcessing({{-1, 0}, {eos}}, {{-1, 0}, {-1, 1}, {eos}});
  decoder.after_special_token = " ";
  decoder.spaces_in_unknown = true;
  decoder.strip = true;
  for (const AddedToken& token : parts.added_tokens)
    decoder.special_tokens.push_back(token.content);
  parts.decoder = CreateSentencePiecesDecoder(pieces, std::move(decoder));
  RETURN_IF_ERROR(AddLanguages(Family::kMarian, config, parts));
  ASSIGN_OR_RETURN(parts.model,
                   CreateSentencePieceModel(pieces, std::move(vocabulary), names.unknown));
  return parts;
}

// The other files.

absl::StatusOr<TokenizerParts> VocabTxtParts(Family family, const Config& config,
                                             absl::string_view vocab_txt) {
  WordPieceOptions options;
  ASSIGN_OR_RETURN(options.lowercase, config.Bool("do_lower_case", options.lowercase));
  ASSIGN_OR_RETURN(options.tokenize_chinese_chars,
                   config.Bool("tokenize_chinese_chars", options.tokenize_chinese_chars));
  if (const auto strip_accents = config.Find("strip_accents")) {
    ASSIGN_OR_RETURN(options.strip_accents, strip_accents->Bool());
  }
  if (family == Family::kMpnet) {
    options.pad_token = "<pad>";
    options.cls_token = "<s>";
    options.sep_token = "</s>";
    options.mask_token = "<mask>";
    options.mask_takes_space = true;
    options.separates_twice = true;
  }
  ASSIGN_OR_RETURN(options.pad_token, config.String("pad_token", options.pad_token));
  ASSIGN_OR_RETURN(options.unknown_token, config.String("unk_token", options.unknown_token));
  ASSIGN_OR_RETURN(options.cls_token, config.String("cls_token", options.cls_token));
  ASSIGN_OR_RETURN(options.sep_token, config.String("sep_token", options.sep_token));
  ASSIGN_OR_RETURN(options.mask_token, config.String("mask_token", options.mask_token));
  ASSIGN_OR_RETURN(TokenizerParts parts, WordPieceParts(vocab_txt, options));
  RETURN_IF_ERROR(AddConfiguredTokens(config, parts.added_tokens));
  return parts;
}

absl::StatusOr<TokenizerParts> MergesParts(Family family, const Config& config,
                                           absl::string_view vocab_json,
                                           absl::string_view merges_txt) {
  ByteLevelOptions options;
  ASSIGN_OR_RETURN(options.add_prefix_space, config.Bool("add_prefix_space", /*fallback=*/false));
  if (family == Family::kRoberta) {
    SpecialNames names = {.bos = "<s>",
                          .eos = "</s>",
                          .unknown = "<unk>",
                          .sep = "</s>",
                          .pad = "<pad>",
                          .cls = "<s>",
                          .mask = "<mask>"};
    ASSIGN_OR_RETURN(names, SpecialNames::Read(config, names));
    options.special_tokens = names.AddedTokens();
    ASSIGN_OR_RETURN(const bool trim_offsets, config.Bool("trim_offsets", /*fallback=*/true));
    options.frame = ByteLevelOptions::Frame{names.cls, names.sep, trim_offsets};
  }
  ASSIGN_OR_RETURN(TokenizerParts parts, ByteLevelParts(vocab_json, merges_txt, options));
  RETURN_IF_ERROR(AddConfiguredTokens(config, parts.added_tokens));
  return parts;
}

absl::string_view SentencePieceFile(Family family) {
  switch (family) {
    case Family::kT5:
    case Family::kAlbert:
      return "spiece.model";
    case Family::kXlmRoberta:
    case Family::kMbart:
    case Family::kMbart50:
    case Family::kM2m100:
    case Family::kNllb:
      return "sentencepiece.bpe.model";
    default:
      return "tokenizer.model";
  }
}

// The tokenizer of `parts`, made of `file`. Its added tokens have the ids that the configuration
// says they have.
absl::StatusOr<std::unique_ptr<Tokenizer>> Finish(const TokenizerFolder& folder,
                                                  const Config& config, absl::string_view file,
                                                  absl::StatusOr<TokenizerParts> parts) {
  ASSIGN_OR_RETURN(
      std::unique_ptr<Tokenizer> tokenizer,
      PipelineTokenizer::Create(std::move(parts), absl::StrCat(folder.path, "/", file)));
  ASSIGN_OR_RETURN(const auto by_id, config.AddedTokensById());
  for (const auto& [id, token] : by_id) {
    const std::optional<int32_t> actual = tokenizer->TokenToId(token.content);
    if (actual == id || token.content.empty()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        folder.path, "/", kConfigFile, ": added_tokens_decoder has \"", token.content, "\" as ", id,
        "; the vocabulary of ", file, " makes it ", actual.value_or(-1)));
  }
  return tokenizer;
}

absl::StatusOr<Config> ReadConfig(const TokenizerFolder& folder) {
  absl::StatusOr<Config> config = Config::Read(folder);
  if (config.ok()) return config;
  return absl::Status(config.status().code(),
                      absl::StrCat(folder.path, "/", kConfigFile, ": ", config.status().message()));
}

// Marian's tokenizer of one side; null if `spm_file` is absent.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadMarian(const TokenizerFolder& folder,
                                                      const Config& config,
                                                      absl::string_view spm_file,
                                                      absl::string_view vocab_file) {
  ASSIGN_OR_RETURN(const std::optional<std::string> model, folder.read(spm_file));
  ASSIGN_OR_RETURN(const std::optional<std::string> vocab, folder.read(vocab_file));
  if (!model.has_value() && !vocab.has_value()) return nullptr;
  if (!model.has_value() || !vocab.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder.path, "/", model.has_value() ? vocab_file : spm_file,
                     " is absent; a Marian tokenizer is ", spm_file, " and ", vocab_file));
  }
  absl::StatusOr<TokenizerParts> parts = MarianParts(config, *model, vocab_file, *vocab);
  // The configuration speaks of the vocabulary of the sources.
  if (vocab_file != "vocab.json")
    return PipelineTokenizer::Create(std::move(parts), absl::StrCat(folder.path, "/", spm_file));
  return Finish(folder, config, spm_file, std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSourceTokenizer(const TokenizerFolder& folder) {
  ASSIGN_OR_RETURN(const Config config, ReadConfig(folder));
  ASSIGN_OR_RETURN(const Family family, FamilyOf(folder, config));
  const auto source = [&folder](absl::string_view file) {
    return absl::StrCat(folder.path, "/", file);
  };
  ASSIGN_OR_RETURN(const std::optional<std::string> json, folder.read("tokenizer.json"));
  if (json.has_value()) {
    absl::StatusOr<TokenizerParts> parts = TokenizerJsonParts(*json);
    if (parts.ok()) {
      if (absl::Status status = AddLanguages(family, config, *parts); !status.ok()) parts = status;
    }
    return PipelineTokenizer::Create(std::move(parts), source("tokenizer.json"));
  }
  if (family == Family::kMarian) return ReadMarian(folder, config, "source.spm", "vocab.json");

  ASSIGN_OR_RETURN(const std::optional<std::string> vocab_json, folder.read("vocab.json"));
  const absl::string_view model_file = SentencePieceFile(family);
  ASSIGN_OR_RETURN(const std::optional<std::string> model, folder.read(model_file));
  if (model.has_value()) {
    return Finish(folder, config, model_file,
                  SentencePieceParts(family, config, *model, vocab_json));
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> vocab_txt, folder.read("vocab.txt"));
  if (vocab_txt.has_value())
    return Finish(folder, config, "vocab.txt", VocabTxtParts(family, config, *vocab_txt));
  ASSIGN_OR_RETURN(const std::optional<std::string> merges, folder.read("merges.txt"));
  if (vocab_json.has_value() && merges.has_value()) {
    return Finish(folder, config, "vocab.json", MergesParts(family, config, *vocab_json, *merges));
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTargetTokenizer(const TokenizerFolder& folder) {
  constexpr absl::string_view kFile = "target_tokenizer.json";
  ASSIGN_OR_RETURN(const std::optional<std::string> json, folder.read(kFile));
  if (json.has_value()) return CreateTokenizer(*json, absl::StrCat(folder.path, "/", kFile));
  ASSIGN_OR_RETURN(const Config config, ReadConfig(folder));
  ASSIGN_OR_RETURN(const Family family, FamilyOf(folder, config));
  if (family != Family::kMarian) return nullptr;
  ASSIGN_OR_RETURN(const std::optional<std::string> source_json, folder.read("tokenizer.json"));
  ASSIGN_OR_RETURN(const std::optional<std::string> source_spm, folder.read("source.spm"));
  if (source_json.has_value() || !source_spm.has_value()) return nullptr;
  ASSIGN_OR_RETURN(const bool separate, config.Bool("separate_vocabs", /*fallback=*/false));
  return ReadMarian(folder, config, "target.spm", separate ? "target_vocab.json" : "vocab.json");
}

}  // namespace attendant::engine
