#ifndef ATTENDANT_ENGINE_TOKENIZER_PIPELINE_TOKENIZER_H_
#define ATTENDANT_ENGINE_TOKENIZER_PIPELINE_TOKENIZER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/decoders.h"
#include "engine/tokenizer/model.h"
#include "engine/tokenizer/normalizers.h"
#include "engine/tokenizer/post_processors.h"
#include "engine/tokenizer/pre_tokenizers.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// How a translator's sources name their languages.
struct SourceLanguages {
  // Stand for the tokens of the languages in `frame`; left out where no language is given.
  static constexpr int32_t kSource = -2;
  static constexpr int32_t kTarget = -3;

  Languages languages;
  std::vector<TemplatePiece> frame;  // around the source
};

// What a tokenizer is made of. All but the model may be null: that stage is then left out.
struct TokenizerParts {
  std::vector<AddedToken> added_tokens;
  std::unique_ptr<Normalizer> normalizer;
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<PostProcessor> post_processor;
  std::unique_ptr<Decoder> decoder;
  // Finds the languages of the finished tokenizer, whose post-processor is then made of their
  // frame; nothing if it has none. May be null.
  std::function<absl::StatusOr<std::optional<SourceLanguages>>(const Tokenizer&)> find_languages;
};

// text -> normalizer -> pre-tokenizer -> model -> post-processor -> ids -> decoder -> text.
class PipelineTokenizer : public Tokenizer {
 public:
  // `source` is how errors call what the parts were made of.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(absl::StatusOr<TokenizerParts> parts,
                                                           absl::string_view source);

  absl::string_view kind() const override { return kind_; }
  int32_t vocab_size() const override;
  absl::StatusOr<Encoding> Encode(absl::string_view text, bool add_special_tokens) const override;
  absl::StatusOr<Encoding> EncodePair(absl::string_view text, absl::string_view text_pair,
                                      bool add_special_tokens) const override;
  const Languages* languages() const override;
  absl::StatusOr<Encoding> EncodeSource(absl::string_view text, absl::string_view source_language,
                                        absl::string_view target_language) const override;
  int32_t num_special_tokens(bool is_pair) const override;
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                     bool skip_special_tokens) const override;
  std::unique_ptr<Decoding> StartDecoding(bool skip_special_tokens) const override;
  std::optional<std::string> IdToToken(int32_t id) const override;
  std::optional<int32_t> TokenToId(absl::string_view token) const override;
  bool IsSpecial(int32_t id) const override;

 private:
  struct SpaceCounts {
    uint16_t leading = 0;
    uint16_t trailing = 0;
  };

  PipelineTokenizer(TokenizerParts parts, AddedTokens added_tokens);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerParts parts);

  static SpaceCounts CountSpaces(absl::string_view token);
  absl::StatusOr<TokenRun> EncodeText(absl::string_view text, int sequence) const;
  static absl::StatusOr<Encoding> PostProcess(const PostProcessor* post_processor,
                                              const std::array<absl::string_view, 2>& texts,
                                              bool add_special_tokens, std::vector<TokenRun> runs);

  const std::unique_ptr<Normalizer> normalizer_;
  const std::unique_ptr<PreTokenizer> pre_tokenizer_;
  const std::unique_ptr<Model> model_;
  const std::unique_ptr<Decoder> decoder_;
  const AddedTokens added_tokens_;
  std::unique_ptr<PostProcessor> post_processor_;
  std::optional<SourceLanguages> languages_;
  absl::string_view kind_ = model_->kind();
  std::vector<SpaceCounts> space_counts_;  // by id, if the post-processor asks for it
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_PIPELINE_TOKENIZER_H_
