#ifndef ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_
#define ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_

#include <cstdint>

#include "engine/base/tensor.h"
#include "engine/kernels/activation.h"

namespace attendant::engine {

// What becomes of a product's sums: y = activation(sum + bias), or added to y. Private to this
// folder.
struct Epilogue {
  const float* bias = nullptr;  // [out_features], padded to a multiple of 16; or null
  Activation activation = Activation::kNone;
  bool add = false;  // to what y holds
};

// Moves the sums of a block, [y.rows, sums_stride], to y, whose first column is output `feature`.
void ApplyEpilogue(const Epilogue& epilogue, const float* sums, int64_t sums_stride,
                   int64_t feature, const Matrix& y);

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_
