// Encode: vectors, pooled from the hidden states.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "engine/base/field_error.h"
#include "engine/base/status_macros.h"
#include "engine/embedding_output.h"
#include "engine/kernels/norm.h"
#include "engine/model/pooling.h"
#include "engine/readers/readers.h"

namespace attendant::engine {
namespace {

PoolingKind ResolvePooling(Pooling pooling, const SentenceConfig& sentence) {
  switch (pooling) {
    case Pooling::kModelDefault:
      return sentence.pooling;
    case Pooling::kMean:
      return PoolingKind::kMean;
    case Pooling::kCls:
      return PoolingKind::kCls;
    case Pooling::kMax:
      return PoolingKind::kMax;
    case Pooling::kLastToken:
      return PoolingKind::kLastToken;
    case Pooling::kNone:
      return PoolingKind::kNone;
  }
  return sentence.pooling;
}

// What is put before every text.
absl::StatusOr<std::string> ResolvePrompt(const EncodeRequest& request,
                                          const SentenceConfig& sentence) {
  if (request.prompt.has_value() && request.prompt_name.has_value()) {
    return FieldError("prompt_name", "is set, and so is prompt; only one can be");
  }
  if (request.prompt.has_value()) return *request.prompt;
  const std::string& name = request.prompt_name.value_or(sentence.default_prompt_name);
  if (name.empty() && !request.prompt_name.has_value()) return "";
  const auto it = sentence.prompts.find(name);
  if (it != sentence.prompts.end()) return it->second;
  return FieldError("prompt_name",
                    absl::StrCat("is \"", name, "\"; this model has [",
                                 absl::StrJoin(sentence.prompts, ", ",
                                               [](std::string* out, const auto& prompt) {
                                                 absl::StrAppend(out, prompt.first);
                                               }),
                                 "]"));
}

absl::StatusOr<std::vector<int32_t>> ResolveLayers(absl::Span<const int32_t> layers,
                                                   int32_t num_layers) {
  std::vector<int32_t> resolved;
  for (const int32_t layer : layers) {
    if (layer < -1 || layer > num_layers) {
      return FieldError("hidden_layers",
                        absl::StrCat("names layer ", layer, "; this model has 0 to ", num_layers,
                                     ", and -1 for the last"));
    }
    resolved.push_back(layer == -1 ? num_layers : layer);
  }
  return resolved;
}

class VectorReader : public ReaderOf<EncodeResult> {
 public:
  // Checks what the request asks for, and fills in the model's defaults.
  absl::Status SetOutput(const EncodeRequest& request, const LoadedModel& model) {
    hidden_size_ = model.hidden_size;
    pooling_ = ResolvePooling(request.pooling, model.sentence);
    normalize_ = request.normalize.value_or(model.sentence.normalize);
    output_dtype_ = request.output_dtype;
    dimensions_ = request.dimensions.value_or(model.hidden_size);
    if (dimensions_ < 1 || dimensions_ > model.hidden_size) {
      return FieldError(
          "dimensions",
          absl::StrCat("is ", dimensions_, "; this model's vectors have ", model.hidden_size));
    }
    RETURN_IF_ERROR(CheckEmbeddingType(output_dtype_, dimensions_, normalize_));
    ASSIGN_OR_RETURN(hidden_layers_,
                     ResolveLayers(request.hidden_layers, model.description.num_layers));
    return absl::OkStatus();
  }

  // The next input: its status, and its length in tokens.
  void AddInput(absl::Status status, int32_t num_tokens, int32_t original_tokens) {
    EncodedInput& encoded = result_.inputs.emplace_back();
    encoded.original_tokens = original_tokens;
    encoded.status = std::move(status);
    first_hidden_row_.push_back(num_tokens_);
    if (!encoded.status.ok()) return;
    encoded.num_tokens = num_tokens;
    encoded.num_rows = pooling_ == PoolingKind::kNone ? num_tokens : 1;
    encoded.row = static_cast<int32_t>(num_rows_);
    num_rows_ += encoded.num_rows;
    num_tokens_ += num_tokens;
  }

  // Makes room for the vectors of all inputs.
  absl::Status Allocate(const LoadedModel& model) {
    const int64_t num_values =
        num_rows_ * dimensions_ +
        num_tokens_ * hidden_size_ * static_cast<int64_t>(hidden_layers_.size());
    RETURN_IF_ERROR(CheckResultBytes("vectors", num_values * int64_t{sizeof(float)}, model));
    embeddings_.resize(num_rows_ * dimensions_);
    hidden_states_.assign(hidden_layers_.size(), std::vector<float>(num_tokens_ * hidden_size_));
    return absl::OkStatus();
  }

  const absl::Status& first_status() const { return result_.inputs.front().status; }

  void ReadLayer(size_t input, int32_t layer, ConstMatrix hidden) override {
    for (size_t i = 0; i < hidden_layers_.size(); ++i) {
      if (hidden_layers_[i] != layer) continue;
      float* out = hidden_states_[i].data() + first_hidden_row_[input] * hidden.cols;
      for (int64_t row = 0; row < hidden.rows; ++row, out += hidden.cols) {
        std::copy_n(hidden.row(row), hidden.cols, out);
      }
    }
  }

  void Read(size_t input, ConstMatrix hidden, Network&, KernelContext& context) override {
    const EncodedInput& encoded = result_.inputs[input];
    pooled_.resize(encoded.num_rows * hidden.cols);
    const Matrix pooled(pooled_.data(), encoded.num_rows, hidden.cols);
    Pool(pooling_, hidden, pooled);

    const Matrix out(embeddings_.data() + int64_t{encoded.row} * dimensions_, encoded.num_rows,
                     dimensions_);
    for (int64_t row = 0; row < out.rows; ++row) {
      std::copy_n(pooled.row(row), dimensions_, out.row(row));
    }
    if (normalize_) L2Normalize(context, out);
  }

  void Complete(const RequestUsage& usage, const RequestTimings& timings) override {
    result_.embeddings =
        ConvertEmbeddings(ConstMatrix(embeddings_.data(), num_rows_, dimensions_), output_dtype_);
    for (const std::vector<float>& hidden : hidden_states_) {
      result_.hidden_states.push_back(ConvertEmbeddings(
          ConstMatrix(hidden.data(), num_tokens_, hidden_size_), DataType::kFloat32));
    }
    ReaderOf::Complete(usage, timings);
  }

 private:
  int64_t hidden_size_ = 0;
  PoolingKind pooling_ = PoolingKind::kMean;
  bool normalize_ = false;
  int32_t dimensions_ = 0;
  DataType output_dtype_ = DataType::kFloat32;
  std::vector<int32_t> hidden_layers_;  // from 0

  int64_t num_rows_ = 0;
  int64_t num_tokens_ = 0;
  std::vector<int64_t> first_hidden_row_;          // of each input, in each of hidden_states_
  std::vector<float> embeddings_;                  // [rows, dimensions]
  std::vector<std::vector<float>> hidden_states_;  // of each of hidden_layers_
  std::vector<float> pooled_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EncodeJob>> Prepare(EncodeRequest request, InFlight in_flight,
                                                   absl::Time submitted,
                                                   Engine::EncodeCallback& done) {
  const LoadedModel& model = in_flight.model();
  auto job =
      std::make_unique<EncodeJob>(std::move(in_flight), std::move(request.control), submitted);
  RETURN_IF_ERROR(CheckCanEncode(model.description));
  if (request.inputs.empty()) return FieldError("inputs", "is empty; give at least one");
  RETURN_IF_ERROR(CheckTruncation(request.truncation));
  auto reader = std::make_unique<VectorReader>();
  RETURN_IF_ERROR(reader->SetOutput(request, model));
  if (model.images.has_value() && (request.prompt.has_value() || request.prompt_name.has_value())) {
    return FieldError(request.prompt.has_value() ? "prompt" : "prompt_name",
                      "is set; this model reads images, which have no text to put it before");
  }
  ASSIGN_OR_RETURN(const std::string prompt, ResolvePrompt(request, model.sentence));

  RETURN_IF_ERROR(CheckImageBytes(request.inputs, model));

  for (size_t i = 0; i < request.inputs.size(); ++i) {
    RETURN_IF_ERROR(job->control->Check(absl::Now()));
    int32_t original_tokens = 0;
    absl::StatusOr<EncodeJob::Input> input =
        PrepareInput(request.inputs[i], prompt, request.truncation, model, original_tokens);
    const absl::Status status = AtInput(i, input.status());
    job->AddInput(std::move(input).value_or(EncodeJob::Input()));
    reader->AddInput(status, static_cast<int32_t>(job->inputs.back().ids.size()), original_tokens);
  }
  RETURN_IF_ERROR(job->CheckAnyGood(reader->first_status()));
  RETURN_IF_ERROR(reader->Allocate(model));
  reader->set_done(std::move(done));
  job->reader = std::move(reader);
  job->tokenized = absl::Now();
  return job;
}

}  // namespace attendant::engine
