#ifndef ATTENDANT_TESTS_ENGINE_MODEL_MODEL_RUNNER_H_
#define ATTENDANT_TESTS_ENGINE_MODEL_MODEL_RUNNER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/kv_cache/kv_cache.h"
#include "engine/model/transformer.h"

namespace attendant::engine {

// Runs sequences through a model step by step, as the engine would: packed, each with blocks of the
// cache, which are handed out in an order that no contiguous memory would have.
class ModelRunner {
 public:
  static constexpr int32_t kBlockSize = 8;

  // Room for `max_tokens` tokens in the cache, over all sequences. `model` must outlive the runner.
  ModelRunner(Transformer& model, int32_t max_tokens);

  // The next tokens of a sequence, which begins with its first piece.
  struct Piece {
    int sequence = 0;
    std::vector<int32_t> ids;
    std::vector<int32_t> type_ids = {};
    std::vector<float> patches = {};
  };

  // An image as an image model reads it: its patches, or pixels [3, height, width].
  static Piece OfPatches(const ModelConfig& config, int sequence, std::vector<float> patches);
  static Piece OfImage(const ModelConfig& config, int sequence, absl::Span<const float> pixels);

  // What one piece gave.
  struct Output {
    std::vector<std::vector<float>> hidden_states;  // [layers + 1] of [tokens, hidden_size]
    std::vector<float> logits;                      // [tokens, vocab_size]; empty without a head
    std::vector<float> source_weights;  // [source tokens], of the last token; empty without
  };

  // All pieces in one step, packed in this order.
  std::vector<Output> Step(const std::vector<Piece>& pieces);

  // Encoder-decoders: encodes the sources of sequences that have not begun, packed in this order.
  void EncodeSources(const std::vector<Piece>& sources);

  // One sequence alone, in one step and a cache of its own.
  static Output Run(Transformer& model, const std::vector<int32_t>& ids,
                    const std::vector<int32_t>& type_ids = {},
                    const std::vector<int32_t>& source = {});

  // One image alone.
  static Output RunImage(Transformer& model, absl::Span<const float> pixels);

  // The greedy continuation of `ids`, for encoder-decoders given `source`.
  static std::vector<int32_t> Greedy(Transformer& model, const std::vector<int32_t>& ids,
                                     int num_new_tokens, const std::vector<int32_t>& source = {});

 private:
  struct Sequence {
    int32_t num_tokens = 0;
    std::vector<int32_t> blocks;
    int32_t num_source_tokens = 0;
    std::vector<int32_t> source_blocks;
  };

  Sequence& SequenceAt(int index);
  void Reserve(int32_t num_tokens, std::vector<int32_t>& blocks);

  Transformer& model_;
  std::unique_ptr<KvCache> cache_;  // null for encoders
  std::vector<int32_t> free_blocks_;
  std::vector<Sequence> sequences_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_MODEL_MODEL_RUNNER_H_
