#ifndef ATTENDANT_ENGINE_TOKENIZER_POST_PROCESSORS_H_
#define ATTENDANT_ENGINE_TOKENIZER_POST_PROCESSORS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/json_value.h"
#include "engine/tokenizer/tokenizer.h"

namespace attendant::engine {

// A token on its way into an Encoding.
struct EncodedToken {
  int32_t id = 0;
  int32_t type_id = 0;
  TextRange offsets;
  int8_t sequence_id = -1;
  bool is_special = false;
  // How many characters of whitespace the token has at its ends; known only if the post-processor
  // asks for it.
  uint16_t leading_spaces = 0;
  uint16_t trailing_spaces = 0;
};
using TokenRun = std::vector<EncodedToken>;

// The fourth stage: adds the special tokens of the model. Immutable; any thread.
class PostProcessor {
 public:
  virtual ~PostProcessor() = default;

  // `runs`: at first the tokens of the text, or of each of a pair; then what earlier parts made of
  // them, in the order in which they will be joined. `texts`, by sequence id. INVALID_ARGUMENT if
  // there are more or fewer runs than this can take.
  virtual absl::Status Process(const std::array<absl::string_view, 2>& texts,
                               bool add_special_tokens, std::vector<TokenRun>& runs) const = 0;

  // How many tokens are added to a text, and to a pair.
  virtual int32_t num_special_tokens(bool is_pair) const = 0;

  // Whether the tokens must come with the whitespace at their ends counted.
  virtual bool trims_offsets() const { return false; }
};

// The post-processor that `json` describes. UNIMPLEMENTED names a type that is not known.
absl::StatusOr<std::unique_ptr<PostProcessor>> CreatePostProcessor(const JsonValue& json);

// A token that a template adds, or (id -1) a sequence.
struct TemplatePiece {
  int32_t id = -1;
  int8_t sequence = 0;
  int32_t type_id = 0;
};
std::unique_ptr<PostProcessor> CreateTemplateProcessing(std::vector<TemplatePiece> single,
                                                        std::vector<TemplatePiece> pair);

// RoBERTa's: <s> A </s>, and </s> B </s> for the second text, all of type 0. With `trim_offsets`
// without the whitespace at the ends of tokens.
std::unique_ptr<PostProcessor> CreateRobertaProcessing(int32_t cls, int32_t sep, bool trim_offsets,
                                                       bool add_prefix_space);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_POST_PROCESSORS_H_
