#ifndef ATTENDANT_ENGINE_KERNELS_ACTIVATION_H_
#define ATTENDANT_ENGINE_KERNELS_ACTIVATION_H_

#include <cstdint>

#include "engine/base/tensor.h"
#include "engine/kernels/kernel_context.h"

namespace attendant::engine {

enum class Activation : uint8_t {
  kNone,
  kRelu,
  kGeluErf,   // x/2 (1 + erf(x/sqrt 2)): "gelu" in config.json
  kGeluTanh,  // its tanh approximation: "gelu_new", "gelu_pytorch_tanh"
  kSilu,      // x sigmoid(x), "silu" or "swish"
};

// Shazeer, "GLU Variants Improve Transformer", 2020: out = activation(gate) * up.
//
//   gate_up  [num_rows, 2 * intermediate_size]: the gate's columns, then those of up
//   out      [num_rows, intermediate_size]; may be the first columns of gate_up
void GatedActivation(KernelContext& context, ConstMatrix gate_up, Activation activation,
                     Matrix out);

// Of one row, gate_up [2 * size] and out [size], in the caller's thread; out may be gate_up.
void GateRow(Activation activation, const float* gate_up, int64_t size, float* out);

// tanh in place; BERT's pooler.
void Tanh(KernelContext& context, Matrix x);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_ACTIVATION_H_
