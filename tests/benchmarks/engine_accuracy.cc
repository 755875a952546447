// What a data type does to a model's answers: a line of JSON for each type, beside the first one.
//
//   engine_accuracy similarity PATH TEXTS TYPE...
//   engine_accuracy perplexity PATH TEXT WINDOW TYPE...
//
// A TYPE is f32, bf16, int8 or int4; perplexity knows `stored` as well, which keeps the integers of
// a quantized GGUF file, and all other types are made of what those stand for.
//
// similarity: the vectors of TEXTS, a file of one text a line, beside those in the first type:
// their cosines, and how far they find the same texts: the share whose nearest other text is the
// same, and the share of the ten nearest ones that are.
//
// perplexity: exp of the mean of -log p over the tokens of TEXT, in windows of WINDOW tokens that
// know nothing of each other; the first token of each has nothing before it and does not count. The
// ratio is to the perplexity in the first type, with its standard error over the same tokens.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/globals.h"
#include "absl/log/initialize.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "engine/base/cpu_topology.h"
#include "engine/batch.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/kernels/kernel_context.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/softmax.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/loaded_model.h"
#include "engine/model/transformer.h"
#include "tests/benchmarks/measurement.h"
#include "tests/benchmarks/weight_types.h"

namespace attendant::engine {
namespace {

using benchmarks::Exit;
using benchmarks::ExitUnlessOk;
using benchmarks::kUsage;

constexpr size_t kLogitRows = 64;  // at a time

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Exit(kUsage, absl::StrCat("cannot read ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// {"type": "int8", "weight_bytes": 1, ...}
void Print(absl::string_view type, int64_t weight_bytes,
           const std::vector<std::pair<std::string, double>>& values) {
  std::string line = absl::StrFormat("{\"type\": \"%s\", \"weight_bytes\": %d", type, weight_bytes);
  for (const auto& [name, value] : values)
    absl::StrAppendFormat(&line, ", \"%s\": %.9g", name, value);
  std::printf("%s}\n", line.c_str());
  std::fflush(stdout);
}

// ---------------------------------------------------------------------------------------------------------------------
// Similarity.

// Of length 1, one after the other.
struct Vectors {
  size_t size = 0;
  std::vector<double> values;

  size_t count() const { return values.size() / size; }
  double Cosine(size_t i, const Vectors& other, size_t j) const {
    const auto a = values.begin() + static_cast<ptrdiff_t>(i * size);
    return std::inner_product(a, a + static_cast<ptrdiff_t>(size),
                              other.values.begin() + static_cast<ptrdiff_t>(j * size), 0.0);
  }

  // The texts nearest to text `i`, the nearest first.
  std::vector<size_t> Nearest(size_t i, size_t wanted) const {
    std::vector<std::pair<double, size_t>> others;  // the nearest have the least
    for (size_t j = 0; j < count(); ++j) {
      if (j != i) others.emplace_back(-Cosine(i, *this, j), j);
    }
    wanted = std::min(wanted, others.size());
    std::partial_sort(others.begin(), others.begin() + static_cast<ptrdiff_t>(wanted),
                      others.end());
    std::vector<size_t> nearest;
    for (size_t n = 0; n < wanted; ++n) nearest.push_back(others[n].second);
    return nearest;
  }
};

Vectors Encode(Engine& engine, const std::vector<std::string>& texts) {
  EncodeRequest request;
  request.inputs.assign(texts.begin(), texts.end());
  request.truncation.side = TruncationSide::kRight;
  absl::StatusOr<EncodeResult> result;
  absl::Notification done;
  engine.Encode(std::move(request), [&](absl::StatusOr<EncodeResult> answer) {
    result = std::move(answer);
    done.Notify();
  });
  done.WaitForNotification();
  ExitUnlessOk(result.status());
  for (const EncodedInput& input : result->inputs) ExitUnlessOk(input.status);
  Vectors vectors{.size = static_cast<size_t>(result->embeddings.shape[1])};
  vectors.values.resize(result->embeddings.data.size() / sizeof(float));
  const auto* values = reinterpret_cast<const float*>(result->embeddings.data.data());
  for (size_t begin = 0; begin < vectors.values.size(); begin += vectors.size) {
    const double length = std::sqrt(
        std::inner_product(values + begin, values + begin + vectors.size, values + begin, 0.0));
    for (size_t i = begin; i < begin + vectors.size; ++i) vectors.values[i] = values[i] / length;
  }
  return vectors;
}

void MeasureSimilarity(const std::string& path, const std::string& texts_path,
                       const std::vector<std::string>& types) {
  constexpr size_t kNearest = 10;
  std::vector<std::string> texts =
      absl::StrSplit(ReadFile(texts_path), '\n', absl::SkipWhitespace());
  if (texts.size() <= kNearest) Exit(kUsage, absl::StrCat(texts_path, " has too few lines"));
  Vectors reference;
  std::vector<std::vector<size_t>> nearest;
  for (const std::string& type : types) {
    auto engine = Engine::Create({});
    ExitUnlessOk(engine.status());
    ExitUnlessOk((*engine)->LoadModel(
        {.name = type, .path = path, .dtype = benchmarks::ParseWeightType(type)}));
    const Vectors vectors = Encode(**engine, texts);
    if (reference.size == 0) {
      reference = vectors;
      for (size_t i = 0; i < texts.size(); ++i) nearest.push_back(vectors.Nearest(i, kNearest));
    }
    double least = 1, sum = 0;
    int64_t same_first = 0, num_common = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const double cosine = vectors.Cosine(i, reference, i);
      least = std::min(least, cosine);
      sum += cosine;
      const std::vector<size_t> found = vectors.Nearest(i, kNearest);
      same_first += found.front() == nearest[i].front();
      for (const size_t text : found) {
        num_common += std::count(nearest[i].begin(), nearest[i].end(), text);
      }
    }
    const auto count = static_cast<double>(texts.size());
    Print(type, (*engine)->GetModel(type)->weight_bytes,
          {{"texts", count},
           {"cosine_mean", sum / count},
           {"cosine_min", least},
           {"same_nearest", static_cast<double>(same_first) / count},
           {"same_ten", static_cast<double>(num_common) / (count * kNearest)}});
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Perplexity.

// A checkpoint that does not tell how its numbers are stored.
class Widened : public Checkpoint {
 public:
  explicit Widened(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const std::string& path() const override { return checkpoint_.path(); }
  const std::string& config_json() const override { return checkpoint_.config_json(); }
  absl::StatusOr<std::optional<std::string>> ReadFile(absl::string_view name) const override {
    return checkpoint_.ReadFile(name);
  }
  const GgufVocabulary* gguf_vocabulary() const override { return checkpoint_.gguf_vocabulary(); }
  std::vector<std::string> TensorNames() const override { return checkpoint_.TensorNames(); }
  std::optional<std::vector<int64_t>> TensorShape(absl::string_view name) const override {
    return checkpoint_.TensorShape(name);
  }
  std::string TensorFormat(absl::string_view name) const override {
    return checkpoint_.TensorFormat(name);
  }
  absl::Status ReadTensor(absl::string_view name, absl::Span<const int64_t> shape,
                          absl::Span<float> output) const override {
    return checkpoint_.ReadTensor(name, shape, output);
  }
  void Release(absl::string_view name) const override { checkpoint_.Release(name); }
  int64_t size_bytes() const override { return checkpoint_.size_bytes(); }
  std::string Fingerprint() const override { return checkpoint_.Fingerprint() + "/widened"; }

 private:
  const Checkpoint& checkpoint_;
};

// The logarithm of the probability of each token of the windows but their first.
std::vector<double> Score(Transformer& model, const std::vector<int32_t>& ids, int32_t window) {
  constexpr int32_t kBlockSize = 16;
  KvCacheOptions cache_options = model.cache_options(kBlockSize);
  cache_options.num_blocks = (window + kBlockSize - 1) / kBlockSize;
  KvCache cache(cache_options);
  std::vector<int32_t> blocks(cache_options.num_blocks), rows(window - 1);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<double> logprobs;
  for (size_t begin = 0; begin + window <= ids.size(); begin += window) {
    Batch batch;
    batch.token_ids.assign(ids.begin() + static_cast<ptrdiff_t>(begin),
                           ids.begin() + static_cast<ptrdiff_t>(begin + window));
    batch.positions.resize(window);
    std::iota(batch.positions.begin(), batch.positions.end(), 0);
    batch.sequences.push_back({.num_queries = window, .blocks = blocks});
    const ConstMatrix hidden = model.Forward(batch, &cache);
    for (absl::Span<const int32_t> left = rows; !left.empty();) {
      const absl::Span<const int32_t> some = left.first(std::min(left.size(), kLogitRows));
      const Matrix logits = model.Logits(hidden, some);
      for (size_t i = 0; i < some.size(); ++i) {
        const float* row = logits.row(static_cast<int64_t>(i));
        const float normalizer = LogSumExp({row, static_cast<size_t>(logits.cols)});
        logprobs.push_back(double{row[batch.token_ids[some[i] + 1]]} - normalizer);
      }
      left.remove_prefix(some.size());
    }
  }
  return logprobs;
}

void MeasurePerplexity(const std::string& path, const std::string& text_path, int32_t window,
                       const std::vector<std::string>& types) {
  const auto checkpoint = Checkpoint::Open(path);
  ExitUnlessOk(checkpoint.status());
  const Widened widened(**checkpoint);
  const auto tokenizer = ReadTokenizer(**checkpoint);
  ExitUnlessOk(tokenizer.status());
  if (*tokenizer == nullptr) Exit(kUsage, absl::StrCat(path, " has no tokenizer"));
  const auto encoding = (*tokenizer)->Encode(ReadFile(text_path), /*add_special_tokens=*/false);
  ExitUnlessOk(encoding.status());
  KernelContext context(DefaultNumThreads());
  std::vector<double> reference;
  for (const std::string& type : types) {
    const bool as_stored = type == "stored";
    const auto model = Transformer::Load(
        as_stored ? **checkpoint : static_cast<const Checkpoint&>(widened),
        {.dtype = as_stored ? DefaultDataType() : benchmarks::ParseWeightType(type),
         .as_stored = as_stored,
         .max_batch_tokens = window,
         .max_logit_rows = kLogitRows},
        context);
    ExitUnlessOk(model.status());
    const std::vector<double> logprobs = Score(**model, encoding->ids, window);
    if (logprobs.empty()) Exit(kUsage, absl::StrCat(text_path, " has no whole window"));
    if (reference.empty()) reference = logprobs;
    const auto count = static_cast<double>(logprobs.size());
    double sum = 0, sum_difference = 0, sum_squares = 0;
    for (size_t i = 0; i < logprobs.size(); ++i) {
      const double difference = reference[i] - logprobs[i];
      sum -= logprobs[i];
      sum_difference += difference;
      sum_squares += difference * difference;
    }
    const double mean = sum_difference / count;
    const double deviation = std::sqrt(std::max(0.0, sum_squares / count - mean * mean));
    Print(type, (*model)->weight_bytes(),
          {{"tokens", count},
           {"perplexity", std::exp(sum / count)},
           {"ratio", std::exp(mean)},
           {"ratio_error", std::exp(mean) * deviation / std::sqrt(count)}});
  }
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.size() >= 5 && arguments[1] == "similarity") {
    MeasureSimilarity(arguments[2], arguments[3], {arguments.begin() + 4, arguments.end()});
    return 0;
  }
  int32_t window;
  if (arguments.size() >= 6 && arguments[1] == "perplexity" &&
      absl::SimpleAtoi(arguments[4], &window) && window >= 2) {
    MeasurePerplexity(arguments[2], arguments[3], window, {arguments.begin() + 5, arguments.end()});
    return 0;
  }
  Exit(kUsage,
       "usage: engine_accuracy similarity PATH TEXTS TYPE...\n"
       "       engine_accuracy perplexity PATH TEXT WINDOW TYPE...");
}

}  // namespace
}  // namespace attendant::engine

int main(int argc, char** argv) {
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kError);
  absl::InitializeLog();
  return attendant::engine::Main({argv, argv + argc});
}
