#ifndef ATTENDANT_TESTS_SUPPORT_RANDOM_BERT_H_
#define ATTENDANT_TESTS_SUPPORT_RANDOM_BERT_H_

#include <cstdint>
#include <filesystem>

namespace attendant::testing {

// The shape of a BERT, by config.json's names; as many values in the feed-forward as are hidden.
struct BertShape {
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t hidden_size = 96;
  int64_t max_position_embeddings = 512;
};

// Writes a checkpoint of that shape, of random weights and with the 97 tokens and the tokenizer of
// tests/goldens/bert/plain, into `folder`, which is made.
void WriteBert(const BertShape& shape, const std::filesystem::path& folder);

}  // namespace attendant::testing

#endif  // ATTENDANT_TESTS_SUPPORT_RANDOM_BERT_H_
