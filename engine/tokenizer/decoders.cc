#include "engine/tokenizer/decoders.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

constexpr absl::string_view kReplacementCharacter = "\uFFFD";

// A step that looks at whole tokens.
class WholeTokenStep : public DecodingStep {
 public:
  void Text(absl::string_view text) final { absl::StrAppend(&token_, text); }
  void EndToken() final {
    Token(std::move(token_));
    token_.clear();
  }

 protected:
  virtual void Token(std::string token) = 0;

 private:
  std::string token_;
};

// A decoder of one step, which is made of the decoder's settings.
template <typename Step, typename Settings>
class StepDecoder : public Decoder {
 public:
  explicit StepDecoder(Settings settings) : settings_(std::move(settings)) {}
  void AddSteps(std::vector<std::unique_ptr<DecodingStep>>& steps) const override {
    steps.push_back(std::make_unique<Step>(settings_));
  }

 private:
  const Settings settings_;
};

struct NoSettings {};

struct WordPieceSettings {
  std::string prefix;
  bool cleanup;
};

class WordPieceStep : public WholeTokenStep {
 public:
  explicit WordPieceStep(const WordPieceSettings& settings) : settings_(settings) {}

 private:
  void Token(std::string token) override {
    if (!first_) {
      if (absl::StartsWith(token, settings_.prefix)) {
        token.erase(0, settings_.prefix.size());
      } else {
        token.insert(0, " ");
      }
    }
    first_ = false;
    if (settings_.cleanup) Cleanup(token);
    next().Text(token);
    next().EndToken();
  }

  // What detokenizers of English do, one after the other.
  static void Cleanup(std::string& text) {
    constexpr std::pair<absl::string_view, absl::string_view> kReplacements[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    if (!absl::StrContains(text, ' ')) return;
    for (const auto& replacement : kReplacements) absl::StrReplaceAll({replacement}, &text);
  }

  const WordPieceSettings& settings_;
  bool first_ = true;
};

class ByteLevelStep : public WholeTokenStep {
 public:
  explicit ByteLevelStep(NoSettings) {}

  void Finish() override {
    Give(/*at_end=*/true);
    next().EndToken();
    next().Finish();
  }

 private:
  void Token(std::string token) override {
    const size_t before = bytes_.size();
    for (size_t position = 0; position < token.size();) {
      const int byte = CharToByte(unicode::Next(token, position));
      if (byte < 0) {  // not one of ours: as it is
        bytes_.resize(before);
        bytes_.append(token);
        break;
      }
      bytes_.push_back(static_cast<char>(byte));
    }
    Give(/*at_end=*/false);
  }

  void Give(bool at_end) {
    std::string text;
    unicode::TakeLossy(bytes_, at_end, text);
    if (!text.empty()) next().Text(text);
  }

  std::string bytes_;  // the start of a character
};

struct MetaspaceSettings {
  std::string mark;
  bool drop_first;  // the first token's marks are no spaces
};

class MetaspaceStep : public WholeTokenStep {
 public:
  explicit MetaspaceStep(const MetaspaceSettings& settings) : settings_(settings) {}

 private:
  void Token(std::string token) override {
    absl::StrReplaceAll({{settings_.mark, first_ && settings_.drop_first ? "" : " "}}, &token);
    first_ = false;
    next().Text(token);
    next().EndToken();
  }

  const MetaspaceSettings& settings_;
  bool first_ = true;
};

// The suffix of a token is a space, but at the end of the text.
class BytePairStep : public WholeTokenStep {
 public:
  explicit BytePairStep(const std::string& suffix) : suffix_(suffix) {}

  void Finish() override {
    if (pending_.has_value()) Give("");
    next().Finish();
  }

 private:
  void Token(std::string token) override {
    if (pending_.has_value()) Give(" ");
    // What precedes the suffix is certain.
    const size_t certain = suffix_.empty() ? 0 : token.find(suffix_);
    next().Text(absl::string_view(token).substr(0, certain));
    pending_ = certain == std::string::npos ? "" : token.substr(certain);
  }

  void Give(absl::string_view replacement) {
    std::string text;
    if (suffix_.empty()) {  // an empty suffix is before, between and behind the characters
      for (size_t position = 0; position < pending_->size();) {
        const size_t length = unicode::CharLength((*pending_)[position]);
        absl::StrAppend(&text, replacement, pending_->substr(position, length));
        position += length;
      }
      absl::StrAppend(&text, replacement);
    } else {
      text = absl::StrReplaceAll(*pending_, {{suffix_, replacement}});
    }
    next().Text(text);
    next().EndToken();
    pending_.reset();
  }

  const std::string& suffix_;
  std::optional<std::string> pending_;  // the last token, from its suffix on
};

// Tokens <0x..> in a row are bytes; if they are not UTF-8, each is U+FFFD.
class ByteFallbackStep : public WholeTokenStep {
 public:
  explicit ByteFallbackStep(NoSettings) {}

  void Finish() override {
    GiveBytes();
    next().Finish();
  }

 private:
  void Token(std::string token) override {
    if (const std::optional<char> byte = ParseByte(token)) {
      bytes_.push_back(*byte);
      return;
    }
    GiveBytes();
    next().Text(token);
    next().EndToken();
  }

  static std::optional<char> ParseByte(absl::string_view token) {
    if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>')
      return std::nullopt;
    int value = 0;
    for (const char digit : token.substr(token[3] == '+' ? 4 : 3, token[3] == '+' ? 1 : 2)) {
      if (!absl::ascii_isxdigit(digit)) return std::nullopt;
      value = value * 16 +
              (absl::ascii_isdigit(digit) ? digit - '0' : absl::ascii_tolower(digit) - 'a' + 10);
    }
    return static_cast<char>(value);
  }

  void GiveBytes() {
    if (bytes_.empty()) return;
    if (unicode::IsValidUtf8(bytes_)) {
      next().Text(bytes_);
      next().EndToken();
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i) {
        next().Text(kReplacementCharacter);
        next().EndToken();
      }
    }
    bytes_.clear();
  }

  std::string bytes_;
};

// All tokens become one.
class FuseStep : public DecodingStep {
 public:
  explicit FuseStep(NoSettings) {}

  void Text(absl::string_view text) override { next().Text(text); }
  void EndToken() override {}
  void Finish() override {
    next().EndToken();
    next().Finish();
  }
};

struct StripSettings {
  std::string content;  // one character
  int64_t start;
  int64_t stop;
};

// Each token without the first `start` and the last `stop` characters, as far as they are
// `content`.
class StripStep : public DecodingStep {
 public:
  explicit StripStep(const StripSettings& settings) : settings_(settings) {}

  void Text(absl::string_view text) override {
    const std::string& content = settings_.content;
    while (stripped_ < settings_.start && absl::ConsumePrefix(&text, content)) ++stripped_;
    if (text.empty()) return;
    stripped_ = settings_.start;
    if (settings_.stop == 0) {
      next().Text(text);
      return;
    }
    // The last characters may be the last of the token.
    size_t end = text.size();
    int64_t trailing = 0;
    while (absl::EndsWith(text.substr(0, end), content)) {
      end -= content.size();
      ++trailing;
    }
    if (end > 0) {
      Give(held_);
      next().Text(text.substr(0, end));
      held_ = 0;
    }
    held_ += trailing;
    if (held_ > settings_.stop) {
      Give(held_ - settings_.stop);
      held_ = settings_.stop;
    }
  }

  void EndToken() override {
    stripped_ = 0;
    held_ = 0;
    next().EndToken();
  }

 private:
  void Give(int64_t count) {
    for (; count > 0; --count) next().Text(settings_.content);
  }

  const StripSettings& settings_;
  int64_t stripped_ = 0;  // at the start of this token
  int64_t held_ = 0;      // contents at what may be its end
};

struct ReplaceSettings {
  std::shared_ptr<const Pattern> pattern;
  std::string content;
};

// A string is replaced as it comes; a regular expression has to wait for the end of the token.
class ReplaceStep : public DecodingStep {
 public:
  explicit ReplaceStep(const ReplaceSettings& settings) : settings_(settings) {}

  void Text(absl::string_view text) override {
    absl::StrAppend(&text_, text);
    if (!settings_.pattern->is_literal()) return;
    const std::string& literal = settings_.pattern->literal();
    std::string replaced;
    size_t position = 0;
    for (size_t at = text_.find(literal); at != std::string::npos;
         at = text_.find(literal, position)) {
      absl::StrAppend(&replaced, absl::string_view(text_).substr(position, at - position),
                      settings_.content);
      position = at + literal.size();
    }
    // The rest may end in the start of the literal.
    absl::string_view rest = absl::string_view(text_).substr(position);
    size_t held = std::min(rest.size(), literal.size() - 1);
    while (held > 0 && !absl::StartsWith(literal, rest.substr(rest.size() - held))) --held;
    absl::StrAppend(&replaced, rest.substr(0, rest.size() - held));
    text_ = std::string(rest.substr(rest.size() - held));
    if (!replaced.empty()) next().Text(replaced);
  }

  void EndToken() override {
    if (!settings_.pattern->is_literal()) ReplaceMatches();
    next().Text(text_);
    next().EndToken();
    text_.clear();
  }

 private:
  void ReplaceMatches() {
    std::vector<ByteRange> matches;
    // A pattern that fails on a token leaves it as it is.
    if (!settings_.pattern->FindAll(text_, absl::Now() + absl::Seconds(2), matches).ok()) return;
    std::string replaced;
    size_t position = 0;
    for (const ByteRange& match : matches) {
      absl::StrAppend(&replaced, absl::string_view(text_).substr(position, match.begin - position),
                      settings_.content);
      position = match.end;
    }
    text_ = absl::StrCat(replaced, absl::string_view(text_).substr(position));
  }

  const ReplaceSettings& settings_;
  std::string text_;  // of this token: what has not been given
};

class JoinStep : public DecodingStep {
 public:
  explicit JoinStep(NoSettings) {}

  void Text(absl::string_view text) override {
    Begin();
    next().Text(text);
  }
  void EndToken() override {
    Begin();
    at_start_ = true;
  }

 private:
  void Begin() {
    if (!first_ && at_start_) next().Text(" ");
    first_ = false;
    at_start_ = false;
  }

  bool first_ = true;
  bool at_start_ = true;  // of a token
};

class SequenceDecoder : public Decoder {
 public:
  explicit SequenceDecoder(std::vector<std::unique_ptr<Decoder>> parts)
      : parts_(std::move(parts)) {}
  void AddSteps(std::vector<std::unique_ptr<DecodingStep>>& steps) const override {
    for (const auto& part : parts_) part->AddSteps(steps);
  }

 private:
  const std::vector<std::unique_ptr<Decoder>> parts_;
};

template <typename Step, typename Settings>
std::unique_ptr<Decoder> MakeDecoder(Settings settings) {
  return std::make_unique<StepDecoder<Step, Settings>>(std::move(settings));
}

template <typename Step>
absl::StatusOr<std::unique_ptr<Decoder>> CreateSimple(const JsonValue&) {
  return MakeDecoder<Step>(NoSettings());
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateBytePairDecoder(const JsonValue& json) {
  ASSIGN_OR_RETURN(const absl::string_view suffix, json.String("suffix"));
  return MakeDecoder<BytePairStep>(std::string(suffix));
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateMetaspaceDecoder(const JsonValue& json) {
  MetaspaceSettings settings;
  ASSIGN_OR_RETURN(const JsonValue replacement, json.Get("replacement"));
  RETURN_IF_ERROR(SingleCharacter(replacement).status());
  settings.mark = std::string(*replacement.String());
  ASSIGN_OR_RETURN(bool prepends, json.Bool("add_prefix_space", /*fallback=*/true));
  if (const auto scheme = json.Find("prepend_scheme")) {
    ASSIGN_OR_RETURN(const absl::string_view name, scheme->String());
    if (name != "never" && name != "first" && name != "always") {
      return scheme->Error(absl::StrCat("\"", name, "\" is not always, first or never"));
    }
    if (!prepends && name != "never") {
      return json.Error("has an add_prefix_space that contradicts its prepend_scheme");
    }
    prepends = name != "never";
  } else if (!prepends) {
    return json.Error("has an add_prefix_space that contradicts its prepend_scheme");
  }
  settings.drop_first = prepends;
  return MakeDecoder<MetaspaceStep>(std::move(settings));
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateReplaceDecoder(const JsonValue& json) {
  ASSIGN_OR_RETURN(const JsonValue pattern_json, json.Get("pattern"));
  ASSIGN_OR_RETURN(Pattern pattern, Pattern::Create(pattern_json));
  ASSIGN_OR_RETURN(const absl::string_view content, json.String("content"));
  return MakeDecoder<ReplaceStep>(
      ReplaceSettings{std::make_shared<const Pattern>(std::move(pattern)), std::string(content)});
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateSequenceDecoder(const JsonValue& json) {
  ASSIGN_OR_RETURN(auto parts, CreateParts<Decoder>(json, "decoders", CreateDecoder));
  return std::make_unique<SequenceDecoder>(std::move(parts));
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateStripDecoder(const JsonValue& json) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  StripSettings settings;
  ASSIGN_OR_RETURN(const JsonValue content, json.Get("content"));
  RETURN_IF_ERROR(SingleCharacter(content).status());
  settings.content = std::string(*content.String());
  ASSIGN_OR_RETURN(settings.start, json.Integer("start", 0, kMax));
  ASSIGN_OR_RETURN(settings.stop, json.Integer("stop", 0, kMax));
  return MakeDecoder<StripStep>(std::move(settings));
}

absl::StatusOr<std::unique_ptr<Decoder>> CreateWordPieceDecoderFromJson(const JsonValue& json) {
  ASSIGN_OR_RETURN(const absl::string_view prefix, json.String("prefix"));
  ASSIGN_OR_RETURN(const bool cleanup, json.Bool("cleanup"));
  return CreateWordPieceDecoder(prefix, cleanup);
}

constexpr PartType<Decoder> kDecoders[] = {
    {"BPEDecoder", CreateBytePairDecoder},         {"ByteFallback", CreateSimple<ByteFallbackStep>},
    {"ByteLevel", CreateSimple<ByteLevelStep>},    {"Fuse", CreateSimple<FuseStep>},
    {"Metaspace", CreateMetaspaceDecoder},         {"Replace", CreateReplaceDecoder},
    {"Sequence", CreateSequenceDecoder},           {"Strip", CreateStripDecoder},
    {"WordPiece", CreateWordPieceDecoderFromJson},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> CreateDecoder(const JsonValue& json) {
  return CreatePart(kDecoders, json);
}

std::unique_ptr<Decoder> CreateWordPieceDecoder(absl::string_view prefix, bool cleanup) {
  return MakeDecoder<WordPieceStep>(WordPieceSettings{std::string(prefix), cleanup});
}

std::unique_ptr<Decoder> CreateByteLevelDecoder() {
  return MakeDecoder<ByteLevelStep>(NoSettings());
}

std::unique_ptr<Decoder> CreateSentencePieceDecoder(bool strip_space) {
  std::vector<std::unique_ptr<Decoder>> parts;
  parts.push_back(MakeDecoder<ReplaceStep>(
      ReplaceSettings{std::make_shared<const Pattern>(Pattern("\u2581")), " "}));
  parts.push_back(MakeDecoder<ByteFallbackStep>(NoSettings()));
  parts.push_back(MakeDecoder<FuseStep>(NoSettings()));
  if (strip_space) parts.push_back(MakeDecoder<StripStep>(StripSettings{" ", 1, 0}));
  return std::make_unique<SequenceDecoder>(std::move(parts));
}

std::unique_ptr<Decoder> CreateJoiningDecoder() { return MakeDecoder<JoinStep>(NoSettings()); }

}  // namespace attendant::engine
