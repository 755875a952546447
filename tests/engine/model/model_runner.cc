#include "tests/engine/model/model_runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/log/check.h"
#include "engine/kernels/softmax.h"

namespace attendant::engine {
namespace {

void Append(ConstMatrix rows, std::vector<float>& values) {
  for (int64_t i = 0; i < rows.rows; ++i) {
    values.insert(values.end(), rows.row(i), rows.row(i) + rows.cols);
  }
}

}  // namespace

ModelRunner::ModelRunner(Transformer& model, int32_t max_tokens) : model_(model) {
  if (model.spec().stack == Stack::kEncoder) return;
  KvCacheOptions options = model.cache_options(kBlockSize);
  options.num_blocks = 2 * (max_tokens / kBlockSize + 8);
  cache_ = std::make_unique<KvCache>(options);
  // Even blocks from the last, then odd ones from the first.
  for (int32_t block = 1; block < options.num_blocks; block += 2) free_blocks_.push_back(block);
  std::reverse(free_blocks_.begin(), free_blocks_.end());
  for (int32_t block = 0; block < options.num_blocks; block += 2) free_blocks_.push_back(block);
}

std::vector<ModelRunner::Output> ModelRunner::Step(const std::vector<Piece>& pieces) {
  Batch batch;
  for (const Piece& piece : pieces) {
    Sequence& sequence = SequenceAt(piece.sequence);
    const auto num_queries = static_cast<int32_t>(piece.ids.size());
    if (cache_) Reserve(sequence.num_tokens + num_queries, sequence.blocks);
    batch.sequences.push_back({.query_start = batch.num_tokens(),
                               .num_queries = num_queries,
                               .num_past_tokens = sequence.num_tokens,
                               .blocks = sequence.blocks,
                               .source_blocks = sequence.source_blocks,
                               .num_source_tokens = sequence.num_source_tokens,
                               .patches = piece.patches});
    for (int32_t i = 0; i < num_queries; ++i) {
      batch.token_ids.push_back(piece.ids[i]);
      batch.positions.push_back(sequence.num_tokens + i);
      if (!piece.type_ids.empty()) batch.type_ids.push_back(piece.type_ids[i]);
    }
    if (cache_) sequence.num_tokens += num_queries;
    if (sequence.num_source_tokens > 0) {
      batch.aligned_sequences.push_back(static_cast<int32_t>(batch.sequences.size()) - 1);
    }
  }

  std::vector<Output> outputs(pieces.size());
  const ConstMatrix hidden =
      model_.Forward(batch, cache_.get(), [&](int32_t layer, ConstMatrix states) {
        for (size_t i = 0; i < pieces.size(); ++i) {
          const BatchSequence& sequence = batch.sequences[i];
          CHECK_EQ(layer, outputs[i].hidden_states.size());
          Append(states.Rows(sequence.query_start, sequence.num_queries),
                 outputs[i].hidden_states.emplace_back());
        }
      });
  CHECK_EQ(hidden.rows, batch.num_tokens());
  for (size_t i = 0; i < batch.aligned_sequences.size(); ++i) {
    const int32_t index = batch.aligned_sequences[i];
    Append(model_.SourceWeights()
               .Rows(static_cast<int64_t>(i), 1)
               .Cols(0, batch.sequences[index].num_source_tokens),
           outputs[index].source_weights);
  }
  if (!model_.has_language_model_head()) return outputs;
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::vector<int32_t> rows(batch.sequences[i].num_queries);
    std::iota(rows.begin(), rows.end(), batch.sequences[i].query_start);
    Append(model_.Logits(hidden, rows), outputs[i].logits);
  }
  return outputs;
}

ModelRunner::Sequence& ModelRunner::SequenceAt(int index) {
  sequences_.resize(std::max<size_t>(sequences_.size(), index + 1));
  return sequences_[index];
}

// Blocks for so many tokens in all.
void ModelRunner::Reserve(int32_t num_tokens, std::vector<int32_t>& blocks) {
  while (static_cast<int32_t>(blocks.size()) * kBlockSize < num_tokens) {
    CHECK(!free_blocks_.empty());
    blocks.push_back(free_blocks_.back());
    free_blocks_.pop_back();
  }
}

void ModelRunner::EncodeSources(const std::vector<Piece>& sources) {
  Batch batch;
  for (const Piece& source : sources) SequenceAt(source.sequence);
  for (const Piece& source : sources) {
    Sequence& sequence = SequenceAt(source.sequence);
    sequence.num_source_tokens = static_cast<int32_t>(source.ids.size());
    Reserve(sequence.num_source_tokens, sequence.source_blocks);
    batch.sequences.push_back({.query_start = batch.num_tokens(),
                               .num_queries = sequence.num_source_tokens,
                               .source_blocks = sequence.source_blocks,
                               .num_source_tokens = sequence.num_source_tokens});
    for (int32_t i = 0; i < sequence.num_source_tokens; ++i) {
      batch.token_ids.push_back(source.ids[i]);
      batch.positions.push_back(i);
    }
  }
  model_.EncodeSources(batch, *cache_);
}

ModelRunner::Piece ModelRunner::OfPatches(const ModelConfig& config, int sequence,
                                          std::vector<float> patches) {
  Piece piece{.sequence = sequence};
  piece.ids.assign(config.max_position_embeddings, 0);
  std::iota(piece.ids.begin(), piece.ids.end() - config.num_patches(), 0);
  piece.patches = std::move(patches);
  return piece;
}

ModelRunner::Piece ModelRunner::OfImage(const ModelConfig& config, int sequence,
                                        absl::Span<const float> pixels) {
  CHECK_EQ(pixels.size(), size_t{3} * config.image_height * config.image_width);
  const int num_columns = config.image_width / config.patch_width;
  std::vector<float> patches;
  for (int patch = 0; patch < config.num_patches(); ++patch) {
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < config.patch_height; ++y) {
        for (int x = 0; x < config.patch_width; ++x) {
          const int row = patch / num_columns * config.patch_height + y;
          const int column = patch % num_columns * config.patch_width + x;
          patches.push_back(pixels[(c * config.image_height + row) * config.image_width + column]);
        }
      }
    }
  }
  return OfPatches(config, sequence, std::move(patches));
}

ModelRunner::Output ModelRunner::RunImage(Transformer& model, absl::Span<const float> pixels) {
  ModelRunner runner(model, model.config().max_position_embeddings);
  return runner.Step({OfImage(model.config(), 0, pixels)})[0];
}

ModelRunner::Output ModelRunner::Run(Transformer& model, const std::vector<int32_t>& ids,
                                     const std::vector<int32_t>& type_ids,
                                     const std::vector<int32_t>& source) {
  ModelRunner runner(model, static_cast<int32_t>(ids.size() + source.size()));
  if (!source.empty()) runner.EncodeSources({{0, source}});
  return runner.Step({{0, ids, type_ids}})[0];
}

std::vector<int32_t> ModelRunner::Greedy(Transformer& model, const std::vector<int32_t>& ids,
                                         int num_new_tokens, const std::vector<int32_t>& source) {
  ModelRunner runner(model, static_cast<int32_t>(ids.size() + source.size()) + num_new_tokens);
  if (!source.empty()) runner.EncodeSources({{0, source}});
  std::vector<int32_t> next = ids;
  std::vector<int32_t> output;
  const size_t vocab_size = model.config().vocab_size;
  while (output.size() < static_cast<size_t>(num_new_tokens)) {
    const std::vector<float> logits = runner.Step({{0, next}})[0].logits;
    next = {ArgMax(absl::MakeConstSpan(logits).last(vocab_size))};
    output.push_back(next[0]);
  }
  return output;
}

}  // namespace attendant::engine
