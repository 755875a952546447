#include "engine/tokenizer/pipeline_tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/unicode.h"

namespace attendant::engine {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 28;

absl::Status CheckText(absl::string_view name, absl::string_view text) {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", text.size(), " bytes; the limit is ", kMaxTextBytes));
  }
  if (!unicode::IsValidUtf8(text))
    return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8"));
  return absl::OkStatus();
}

// Where the bytes [begin, end) of `piece` came from. Bytes that the piece does not have are taken
// as they are.
TextRange OriginOf(const PreTokenizedString& string, const PreTokenizedString::Piece& piece,
                   const Token& token, size_t text_bytes) {
  const uint32_t size = piece.range.end - piece.range.begin;
  if (token.begin < token.end && token.end <= size) {
    return {string.origins[piece.range.begin + token.begin].begin,
            string.origins[piece.range.begin + token.end - 1].end};
  }
  const auto clamp = [&](uint32_t position) {
    return static_cast<int32_t>(std::min<size_t>(position, text_bytes));
  };
  return {clamp(token.begin), clamp(token.end)};
}

// The steps of a decoder, in a row, and a last one that keeps the text.
class DecodingSteps : public Decoding {
 public:
  DecodingSteps(const Tokenizer& tokenizer, const Decoder& decoder, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {
    decoder.AddSteps(steps_);
    for (size_t i = 0; i < steps_.size(); ++i) {
      steps_[i]->set_next(i + 1 < steps_.size() ? steps_[i + 1].get() : &output_);
    }
  }

  std::string Push(int32_t id) override {
    const std::optional<std::string> token = tokenizer_.IdToToken(id);
    if (!token.has_value() || (skip_special_tokens_ && tokenizer_.IsSpecial(id))) return "";
    DecodingStep& first = steps_.empty() ? static_cast<DecodingStep&>(output_) : *steps_.front();
    first.Text(*token);
    first.EndToken();
    return std::exchange(output_.text, "");
  }

  std::string Finish() override {
    if (!steps_.empty()) steps_.front()->Finish();
    return std::exchange(output_.text, "");
  }

 private:
  struct Output : public DecodingStep {
    void Text(absl::string_view more) override { absl::StrAppend(&text, more); }
    void EndToken() override {}
    void Finish() override {}
    std::string text;
  };

  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  std::vector<std::unique_ptr<DecodingStep>> steps_;
  Output output_;
};

// The template of `languages` with the tokens of these two. Nothing is between the texts of a pair.
absl::StatusOr<std::unique_ptr<PostProcessor>> FrameSource(const SourceLanguages& languages,
                                                           absl::string_view source_language,
                                                           absl::string_view target_language) {
  const Languages& known = languages.languages;
  std::optional<int32_t> source, target;
  if (known.default_source.empty() && !source_language.empty()) {
    return absl::InvalidArgumentError(
        "source_language is given, but this model takes target_language alone");
  }
  if (source_language.empty()) source_language = known.default_source;
  if (!source_language.empty()) {
    ASSIGN_OR_RETURN(source, known.IdOf("source_language", source_language));
  }
  if (!target_language.empty()) {
    ASSIGN_OR_RETURN(target, known.IdOf("target_language", target_language));
  }
  std::vector<TemplatePiece> single, pair;
  for (TemplatePiece piece : languages.frame) {
    if (piece.id == SourceLanguages::kSource || piece.id == SourceLanguages::kTarget) {
      const std::optional<int32_t>& id = piece.id == SourceLanguages::kSource ? source : target;
      if (!id.has_value()) continue;
      piece.id = *id;
    }
    single.push_back(piece);
    pair.push_back(piece);
    if (piece.id < 0) pair.push_back({-1, /*sequence=*/1});
  }
  return CreateTemplateProcessing(std::move(single), std::move(pair));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> PipelineTokenizer::Create(
    absl::StatusOr<TokenizerParts> parts, absl::string_view source) {
  absl::Status status = parts.status();
  if (status.ok()) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Create(*std::move(parts));
    if (tokenizer.ok()) return tokenizer;
    status = tokenizer.status();
  }
  return absl::Status(status.code(), absl::StrCat(source, ": ", status.message()));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> PipelineTokenizer::Create(TokenizerParts parts) {
  ASSIGN_OR_RETURN(AddedTokens added_tokens,
                   AddedTokens::Create(parts.added_tokens, *parts.model, parts.normalizer.get()));
  if (parts.decoder == nullptr) parts.decoder = CreateJoiningDecoder();
  const auto find_languages = std::move(parts.find_languages);
  std::unique_ptr<PipelineTokenizer> tokenizer(
      new PipelineTokenizer(std::move(parts), std::move(added_tokens)));
  if (find_languages != nullptr) {
    ASSIGN_OR_RETURN(tokenizer->languages_, find_languages(*tokenizer));
  }
  if (tokenizer->languages_.has_value()) {
    ASSIGN_OR_RETURN(tokenizer->post_processor_, FrameSource(*tokenizer->languages_, "", ""));
  }
  // A post-processor that does not fit itself or the vocabulary would fail on any text: now rather
  // than then.
  ASSIGN_OR_RETURN(const Encoding single, tokenizer->Encode("", /*add_special_tokens=*/true));
  ASSIGN_OR_RETURN(const Encoding pair, tokenizer->EncodePair("", "", /*add_special_tokens=*/true));
  for (const Encoding* encoding : {&single, &pair}) {
    for (const int32_t id : encoding->ids) {
      if (id < tokenizer->vocab_size()) continue;
      return absl::InvalidArgumentError(absl::StrCat("post_processor adds token id ", id,
                                                     ", outside the vocabulary of ",
                                                     tokenizer->vocab_size(), " tokens"));
    }
  }
  // A byte-level vocabulary spells the space so, whichever of the stages deals with bytes.
  const std::optional<int32_t> space = tokenizer->TokenToId("\u0120");
  if (tokenizer->kind_ == "BPE" && space.has_value()) {
    ASSIGN_OR_RETURN(const std::string text, tokenizer->Decode({*space}, false));
    if (text == " ") tokenizer->kind_ = "ByteLevelBPE";
  }
  return tokenizer;
}

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts, AddedTokens added_tokens)
    : normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      model_(std::move(parts.model)),
      decoder_(std::move(parts.decoder)),
      added_tokens_(std::move(added_tokens)),
      post_processor_(std::move(parts.post_processor)) {
  if (post_processor_ == nullptr || !post_processor_->trims_offsets()) return;
  space_counts_.resize(model_->vocabulary().end_id());
  for (int32_t id = 0; id < model_->vocabulary().end_id(); ++id) {
    if (const auto token = model_->vocabulary().TokenOf(id))
      space_counts_[id] = CountSpaces(*token);
  }
}

int32_t PipelineTokenizer::vocab_size() const {
  return std::max(model_->vocabulary().end_id(), added_tokens_.end_id());
}

PipelineTokenizer::SpaceCounts PipelineTokenizer::CountSpaces(absl::string_view token) {
  const auto is_space = [](char32_t c) { return c == ByteToChar(' ') || unicode::IsWhitespace(c); };
  constexpr uint16_t kMax = std::numeric_limits<uint16_t>::max();
  SpaceCounts counts;
  for (size_t position = 0; position < token.size() && counts.leading < kMax; ++counts.leading) {
    if (!is_space(unicode::Next(token, position))) break;
  }
  for (; !token.empty() && counts.trailing < kMax; ++counts.trailing) {
    size_t position = unicode::LastBegin(token);
    const size_t begin = position;
    if (!is_space(unicode::Next(token, position))) break;
    token = token.substr(0, begin);
  }
  return counts;
}

absl::StatusOr<TokenRun> PipelineTokenizer::EncodeText(absl::string_view text, int sequence) const {
  ASSIGN_OR_RETURN(PreTokenizedString string,
                   added_tokens_.ExtractAndNormalize(text, normalizer_.get()));
  if (pre_tokenizer_ != nullptr) RETURN_IF_ERROR(pre_tokenizer_->PreTokenize(string));
  const bool counts_spaces = post_processor_ != nullptr && post_processor_->trims_offsets();
  TokenRun run;
  run.reserve(string.pieces.size() + 16);
  std::vector<Token> tokens;
  for (const PreTokenizedString::Piece& piece : string.pieces) {
    const absl::string_view piece_text = string.TextOf(piece);
    const bool is_added = piece.token_id >= 0;
    tokens.clear();
    if (is_added) {
      tokens.push_back({piece.token_id, 0, static_cast<uint32_t>(piece_text.size())});
    } else {
      RETURN_IF_ERROR(model_->Encode(piece_text, tokens));
    }
    for (const Token& token : tokens) {
      EncodedToken& encoded = run.emplace_back();
      encoded.id = token.id;
      encoded.type_id = sequence;
      encoded.sequence_id = static_cast<int8_t>(sequence);
      encoded.offsets = OriginOf(string, piece, token, text.size());
      if (!counts_spaces) continue;
      const SpaceCounts counts =
          is_added || model_->IsCalledByText(token.id)
              ? CountSpaces(piece_text.substr(token.begin, token.end - token.begin))
              : space_counts_[token.id];
      encoded.leading_spaces = counts.leading;
      encoded.trailing_spaces = counts.trailing;
    }
  }
  return run;
}

absl::StatusOr<Encoding> PipelineTokenizer::PostProcess(
    const PostProcessor* post_processor, const std::array<absl::string_view, 2>& texts,
    bool add_special_tokens, std::vector<TokenRun> runs) {
  if (post_processor != nullptr)
    RETURN_IF_ERROR(post_processor->Process(texts, add_special_tokens, runs));
  size_t size = 0;
  for (const TokenRun& run : runs) size += run.size();
  Encoding encoding;
  encoding.ids.reserve(size);
  encoding.type_ids.reserve(size);
  encoding.offsets.reserve(size);
  encoding.sequence_ids.reserve(size);
  encoding.special_tokens_mask.reserve(size);
  for (const TokenRun& run : runs) {
    for (const EncodedToken& token : run) {
      encoding.ids.push_back(token.id);
      encoding.type_ids.push_back(token.type_id);
      encoding.offsets.push_back(token.offsets);
      encoding.sequence_ids.push_back(token.sequence_id);
      encoding.special_tokens_mask.push_back(token.is_special);
    }
  }
  return encoding;
}

absl::StatusOr<Encoding> PipelineTokenizer::Encode(absl::string_view text,
                                                   bool add_special_tokens) const {
  RETURN_IF_ERROR(CheckText("text", text));
  std::vector<TokenRun> runs(1);
  ASSIGN_OR_RETURN(runs[0], EncodeText(text, 0));
  return PostProcess(post_processor_.get(), {text, absl::string_view()}, add_special_tokens,
                     std::move(runs));
}

absl::StatusOr<Encoding> PipelineTokenizer::EncodePair(absl::string_view text,
                                                       absl::string_view text_pair,
                                                       bool add_special_tokens) const {
  RETURN_IF_ERROR(CheckText("text", text));
  RETURN_IF_ERROR(CheckText("text_pair", text_pair));
  std::vector<TokenRun> runs(2);
  ASSIGN_OR_RETURN(runs[0], EncodeText(text, 0));
  ASSIGN_OR_RETURN(runs[1], EncodeText(text_pair, 1));
  return PostProcess(post_processor_.get(), {text, text_pair}, add_special_tokens, std::move(runs));
}

const Languages* PipelineTokenizer::languages() const {
  return languages_.has_value() ? &languages_->languages : nullptr;
}

absl::StatusOr<Encoding> PipelineTokenizer::EncodeSource(absl::string_view text,
                                                         absl::string_view source_language,
                                                         absl::string_view target_language) const {
  if (!languages_.has_value())
    return Tokenizer::EncodeSource(text, source_language, target_language);
  ASSIGN_OR_RETURN(const std::unique_ptr<PostProcessor> frame,
                   FrameSource(*languages_, source_language, target_language));
  RETURN_IF_ERROR(CheckText("text", text));
  std::vector<TokenRun> runs(1);
  ASSIGN_OR_RETURN(runs[0], EncodeText(text, 0));
  return PostProcess(frame.get(), {text, absl::string_view()}, /*add_special_tokens=*/true,
                     std::move(runs));
}

int32_t PipelineTokenizer::num_special_tokens(bool is_pair) const {
  return post_processor_ == nullptr ? 0 : post_processor_->num_special_tokens(is_pair);
}

std::unique_ptr<Decoding> PipelineTokenizer::StartDecoding(bool skip_special_tokens) const {
  return std::make_unique<DecodingSteps>(*this, *decoder_, skip_special_tokens);
}

absl::StatusOr<std::string> PipelineTokenizer::Decode(absl::Span<const int32_t> ids,
                                                      bool skip_special_tokens) const {
  DecodingSteps decoding(*this, *decoder_, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " is outside the vocabulary of ", vocab_size(), " tokens"));
    }
    text.append(decoding.Push(id));
  }
  text.append(decoding.Finish());
  return text;
}

std::optional<std::string> PipelineTokenizer::IdToToken(int32_t id) const {
  if (const AddedToken* token = added_tokens_.Find(id)) return token->content;
  if (const auto token = model_->vocabulary().TokenOf(id)) return std::string(*token);
  return std::nullopt;
}

std::optional<int32_t> PipelineTokenizer::TokenToId(absl::string_view token) const {
  if (const auto id = added_tokens_.IdOf(token)) return id;
  return model_->vocabulary().IdOf(token);
}

bool PipelineTokenizer::IsSpecial(int32_t id) const {
  const std::optional<std::string> token = IdToToken(id);
  return token.has_value() && added_tokens_.IsSpecial(*token);
}

}  // namespace attendant::engine
