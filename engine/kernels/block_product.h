#ifndef ATTENDANT_ENGINE_KERNELS_BLOCK_PRODUCT_H_
#define ATTENDANT_ENGINE_KERNELS_BLOCK_PRODUCT_H_

// oneDNN's BRGEMM ukernels: products of blocks that fit the cache, called from within a parallel
// region. Their API is experimental and changes between releases, so all of it is here. Private to
// this folder.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "engine/base/data_type.h"

namespace attendant::engine {

// c [m, n] = a [m, k] b [k, n], or added to c. a and b are of `dtype`, c is float; lda, ldb and ldc
// are the lengths of whole rows, in values. In bfloat16, b is in pairs of rows: value (i, j) at
// (i / 2) * 2 * ldb + 2 * j + i % 2, and k is even.
struct BlockShape {
  DataType dtype = DataType::kFloat32;
  int32_t m = 0, n = 0, k = 0;
  int32_t lda = 0, ldb = 0, ldc = 0;
  bool add = false;

  auto operator<=>(const BlockShape&) const = default;
};

// The machine code for one shape. Any number of threads may run it at once.
class BlockProduct {
 public:
  // Null where oneDNN has none for the shape on this machine.
  static std::unique_ptr<BlockProduct> Create(const BlockShape& shape);
  ~BlockProduct();

  // Bytes of scratch memory for Run, aligned to 64; each thread has its own.
  size_t scratch_bytes() const { return scratch_bytes_; }

  void Run(const void* a, const void* b, float* c, std::byte* scratch) const;

  // After a thread's last Run, before it does anything else for long: lets go of matrix registers.
  static void Release();

 private:
  struct Ukernel;

  BlockProduct();

  std::unique_ptr<Ukernel> ukernel_;
  bool has_context_ = false;  // needs the matrix registers set up
  size_t scratch_bytes_ = 0;
};

// Those made so far.
class BlockProducts {
 public:
  // Makes it if it is new, in some tenths of a millisecond. Null where there is none, or when
  // disabled. Valid until the next call of Trim. Not from within a parallel region.
  const BlockProduct* Get(const BlockShape& shape);

  // Forgets all once they are many, so that memory stays bounded.
  void Trim();

  // For tests and benchmarks of what remains without them.
  void set_enabled(bool enabled) { enabled_ = enabled; }

 private:
  bool enabled_ = true;
  std::map<BlockShape, std::unique_ptr<BlockProduct>> products_;
};

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_KERNELS_BLOCK_PRODUCT_H_
