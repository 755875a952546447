#ifndef ATTENDANT_ENGINE_NETWORK_H_
#define ATTENDANT_ENGINE_NETWORK_H_

#include <cstdint>

#include "absl/log/check.h"
#include "absl/types/span.h"
#include "engine/base/tensor.h"
#include "engine/batch.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/model/transformer.h"

namespace attendant::engine {

// What a step runs: a transformer with its cache; in tests, a fake.
class Network {
 public:
  virtual ~Network() = default;

  virtual int32_t vocab_size() const = 0;
  virtual int32_t hidden_size() const = 0;
  virtual int32_t num_layers() const = 0;

  // As those of Transformer. They may throw: oneDNN or memory failed.
  using HiddenStateObserver = Transformer::HiddenStateObserver;
  virtual ConstMatrix Forward(const Batch& batch, HiddenStateObserver observer) = 0;
  virtual Matrix Logits(ConstMatrix hidden, absl::Span<const int32_t> rows) = 0;
  virtual ConstMatrix SourceWeights() { return {}; }
  virtual bool UsesOnednn(int32_t /*num_tokens*/, int32_t /*num_logit_rows*/) const { return true; }
  virtual void HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                          Head::LogitsVisitor visit) = 0;

  // Runs the encoder over the packed `sources`, each of which is one sequence, and stores the keys
  // and values that every decoder layer's cross-attention has of it into its source_blocks.
  // Encoder-decoders only.
  virtual void EncodeSources(const Batch& sources) { CHECK(sources.sequences.empty()); }
};

class TransformerNetwork : public Network {
 public:
  // `cache` is null for an encoder. Both must outlive the network.
  TransformerNetwork(Transformer& transformer, KvCache* cache)
      : transformer_(transformer), cache_(cache) {}

  int32_t vocab_size() const override { return transformer_.config().vocab_size; }
  int32_t hidden_size() const override { return transformer_.config().hidden_size; }
  int32_t num_layers() const override { return transformer_.config().num_hidden_layers; }
  ConstMatrix Forward(const Batch& batch, HiddenStateObserver observer) override {
    return transformer_.Forward(batch, cache_, observer);
  }
  Matrix Logits(ConstMatrix hidden, absl::Span<const int32_t> rows) override {
    return transformer_.Logits(hidden, rows);
  }
  ConstMatrix SourceWeights() override { return transformer_.SourceWeights(); }
  bool UsesOnednn(int32_t num_tokens, int32_t num_logit_rows) const override {
    return transformer_.UsesOnednn(num_tokens, num_logit_rows);
  }
  void EncodeSources(const Batch& sources) override {
    transformer_.EncodeSources(sources, *cache_);
  }
  void HeadLogits(HeadKind kind, ConstMatrix hidden, absl::Span<const int32_t> rows,
                  Head::LogitsVisitor visit) override {
    transformer_.HeadLogits(kind, hidden, rows, visit);
  }

 private:
  Transformer& transformer_;
  KvCache* const cache_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_NETWORK_H_
