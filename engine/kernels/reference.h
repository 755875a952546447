#ifndef ATTENDANT_ENGINE_KERNELS_REFERENCE_H_
#define ATTENDANT_ENGINE_KERNELS_REFERENCE_H_

// The kernels as plain loops, summed in double: what they mean, and what the fast ones are tested
// against. The same signatures but for the context, which they do not need; they follow the
// comments of the fast ones.

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/quantized_matrix.h"
#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"
#include "engine/kernels/attention.h"

namespace attendant::engine::reference {

double Activate(Activation activation, double x);

void Linear(ConstMatrix weight, absl::Span<const float> bias, Activation activation, ConstMatrix x,
            Matrix y);
void LinearAdd(ConstMatrix weight, absl::Span<const float> bias, Activation activation,
               ConstMatrix x, Matrix y);

void Multiply(ConstMatrix a, ConstMatrix b, Matrix c);

// What the matrix stands for.
void Dequantize(const QuantizedMatrix& matrix, Matrix out);
// What QuantizedWeights makes of its input: every 32 values of a row are integers times their
// greatest magnitude / 127; NaN if one of them is not finite. `out` may be x.
void RoundInGroups(ConstMatrix x, Matrix out);
// The same for whole rows: what ChannelWeights makes of its input, and of its weights.
void RoundInRows(ConstMatrix x, Matrix out);

void GatedActivation(ConstMatrix gate_up, Activation activation, Matrix out);
void Tanh(Matrix x);

void LayerNorm(ConstMatrix x, absl::Span<const float> weight, absl::Span<const float> bias,
               float epsilon, Matrix y);
void RmsNorm(ConstMatrix x, absl::Span<const float> weight, float epsilon, Matrix y);
void L2Normalize(Matrix x);

void ApplyRotary(Matrix x, int32_t num_heads, absl::Span<const int32_t> positions,
                 absl::Span<const float> inverse_frequencies, float scale = 1.0f);

void Gather(ConstMatrix table, absl::Span<const int32_t> ids, Matrix out);
void GatherAdd(ConstMatrix table, absl::Span<const int32_t> ids, Matrix out);

float LogSumExp(absl::Span<const float> x);
int32_t ArgMax(absl::Span<const float> x);

void Attention(const AttentionOptions& options, ConstMatrix q, ConstMatrix k, ConstMatrix v,
               absl::Span<const AttentionSequence> sequences, Matrix out);
void StoreKeysValues(const AttentionOptions& options, ConstMatrix k, ConstMatrix v,
                     absl::Span<const AttentionSequence> sequences, const PagedKeysValues& cache);
void PagedAttention(const AttentionOptions& options, ConstMatrix q, const PagedKeysValues& cache,
                    absl::Span<const AttentionSequence> sequences, Matrix out);
void PagedMeanWeights(const AttentionOptions& options, ConstMatrix q, const PagedKeysValues& cache,
                      absl::Span<const AttentionSequence> sequences, Matrix out);
void MaskedAttention(const AttentionOptions& options, ConstMatrix q, int32_t first_query,
                     int32_t num_queries, ConstMatrix k, ConstMatrix v, const AttentionBias& bias,
                     Matrix out, float* log_sum_exp, float* weights);

}  // namespace attendant::engine::reference

#endif  // ATTENDANT_ENGINE_KERNELS_REFERENCE_H_
