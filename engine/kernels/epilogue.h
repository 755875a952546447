#ifndef ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_
#define ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_

#include "engine/kernels/activation.h"

namespace attendant::engine {

// What becomes of a product's sums: y = activation(sum + bias), or added to y. Private to this
// folder.
struct Epilogue {
  const float* bias = nullptr;  // [out_features], padded to a multiple of 16; or null
  Activation activation = Activation::kNone;
  bool add = false;  // to what y holds
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_EPILOGUE_H_
