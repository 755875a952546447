#ifndef ATTENDANT_TESTS_ENGINE_MODEL_FAKE_CHECKPOINT_H_
#define ATTENDANT_TESTS_ENGINE_MODEL_FAKE_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/gguf_vocabulary.h"
#include "engine/checkpoint/checkpoint.h"

namespace attendant::engine {

// A checkpoint in memory that tests spoil as they like.
class FakeCheckpoint final : public Checkpoint {
 public:
  struct FakeTensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };

  std::string config;
  std::map<std::string, std::string> files;
  std::map<std::string, FakeTensor> tensors;

  // Adds a tensor of values drawn evenly from (center - spread, center + spread); the same name
  // gives the same values.
  void Add(const std::string& name, std::vector<int64_t> shape, float spread = 0.3f,
           float center = 0.0f);

  // In config: replaces the JSON value of `key`, or removes the field if `json` is empty.
  void SetConfig(absl::string_view key, absl::string_view json);

  // Renames every tensor: `prefix` is taken away, or put in front.
  void RemovePrefix(absl::string_view prefix);
  void AddPrefix(absl::string_view prefix);

  const std::string& path() const override { return path_; }
  const std::string& config_json() const override { return config; }
  absl::StatusOr<std::optional<std::string>> ReadFile(absl::string_view name) const override;
  const GgufVocabulary* gguf_vocabulary() const override { return nullptr; }
  std::vector<std::string> TensorNames() const override;
  std::optional<std::vector<int64_t>> TensorShape(absl::string_view name) const override;
  std::string TensorFormat(absl::string_view name) const override;
  absl::Status ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                          absl::Span<float> output) const override;
  void Release(absl::string_view name) const override { released.emplace_back(name); }
  std::string Fingerprint() const override { return "fake"; }
  int64_t size_bytes() const override { return 0; }

  // The tensors that were released, in order.
  mutable std::vector<std::string> released;

 private:
  std::string path_ = "fake";
};

// Tiny random models with sizes that fit no vector register, as transformers would save them from
// BertModel, GPT2LMHeadModel, LlamaForCausalLM and T5ForConditionalGeneration, and as torch would
// from a module around nn.TransformerEncoder and nn.TransformerDecoder.
FakeCheckpoint TinyBert();
FakeCheckpoint TinyGpt2();
FakeCheckpoint TinyLlama();
FakeCheckpoint TinyT5();
FakeCheckpoint TinyTransformer();

}  // namespace attendant::engine

#endif  // ATTENDANT_TESTS_ENGINE_MODEL_FAKE_CHECKPOINT_H_
