#ifndef ATTENDANT_ENGINE_BASE_GGUF_VOCABULARY_H_
#define ATTENDANT_ENGINE_BASE_GGUF_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace attendant::engine {

// The tokenizer that a GGUF file carries (its `tokenizer.ggml.*` keys): read by engine/checkpoint,
// understood by engine/tokenizer.
struct GgufVocabulary {
  std::string model;                // "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE)
  std::string pre;                  // names the pre-tokenizer of a "gpt2" model
  std::vector<std::string> tokens;  // by id
  std::vector<float> scores;        // by id; "llama" only
  std::vector<int32_t>
      token_types;  // by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "a b", in order of rank; "gpt2" only
  std::optional<int32_t> bos_id, eos_id, unknown_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_GGUF_VOCABULARY_H_
