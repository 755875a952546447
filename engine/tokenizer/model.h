#ifndef ATTENDANT_ENGINE_TOKENIZER_MODEL_H_
#define ATTENDANT_ENGINE_TOKENIZER_MODEL_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/vocabulary.h"

namespace attendant::engine {

// A token, and the bytes of its piece that it stands for. Those may lie beyond the end of the
// piece: byte-fallback tokens of a suffix that is not there have bytes of their own.
struct Token {
  int32_t id;
  uint32_t begin;
  uint32_t end;
};

// The third stage: turns a piece of text into tokens. Immutable but for caches; any thread.
class Model {
 public:
  explicit Model(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  virtual absl::string_view kind() const = 0;

  // Appends the tokens of `piece`, which is not empty. INVALID_ARGUMENT if it holds something
  // unknown and the vocabulary has no token for that.
  virtual absl::Status Encode(absl::string_view piece, std::vector<Token>& tokens) const = 0;

  // Whether the tokens `id` are called by the text that they stand for, rather than by the spelling
  // of `id`: then the whitespace at their ends is that of the text.
  virtual bool IsCalledByText(int32_t id) const { return id < 0; }

  // How many tokens the model counts; the ids of added tokens start there.
  virtual int32_t size() const { return vocabulary_.size(); }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  const Vocabulary vocabulary_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_TOKENIZER_MODEL_H_
