#include "engine/kernels/block_product.h"

#include <utility>

#include "absl/log/check.h"
#include "oneapi/dnnl/dnnl_ukernel.hpp"

namespace attendant::engine {

#ifdef DNNL_EXPERIMENTAL_UKERNEL

struct BlockProduct::Ukernel {
  dnnl::ukernel::brgemm brgemm;
};

std::unique_ptr<BlockProduct> BlockProduct::Create(const BlockShape& shape) {
  using dnnl::memory;
  using dnnl::ukernel::pack_type;
  const bool half = shape.dtype == DataType::kBFloat16;
  const memory::data_type type = half ? memory::data_type::bf16 : memory::data_type::f32;
  try {
    auto product = std::unique_ptr<BlockProduct>(new BlockProduct);
    dnnl::ukernel::brgemm brgemm(shape.m, shape.n, shape.k, /*batch_size=*/1, shape.lda, shape.ldb,
                                 shape.ldc, type, type, memory::data_type::f32);
    brgemm.set_add_C(shape.add);
    brgemm.finalize();
    if (brgemm.get_B_pack_type() != (half ? pack_type::pack32 : pack_type::no_trans)) {
      return nullptr;
    }
    brgemm.generate();
    product->has_context_ = half;
    product->scratch_bytes_ = brgemm.get_scratchpad_size();
    product->ukernel_ = std::make_unique<Ukernel>(Ukernel{std::move(brgemm)});
    return product;
  } catch (const dnnl::error&) {  // no such kernel on this machine
    return nullptr;
  }
}

void BlockProduct::Run(const void* a, const void* b, float* c, std::byte* scratch) const {
  static constexpr dnnl_dim_t kOffsets[2] = {0, 0};
  if (has_context_) dnnl_brgemm_set_hw_context(ukernel_->brgemm.get());
  const dnnl_status_t status =
      dnnl_brgemm_execute(ukernel_->brgemm.get(), a, b, kOffsets, c, scratch);
  DCHECK_EQ(status, dnnl_success);
  (void)status;
}

void BlockProduct::Release() { dnnl_brgemm_release_hw_context(); }

#else  // a oneDNN without ukernels

struct BlockProduct::Ukernel {};
std::unique_ptr<BlockProduct> BlockProduct::Create(const BlockShape&) { return nullptr; }
void BlockProduct::Run(const void*, const void*, float*, std::byte*) const {}
void BlockProduct::Release() {}

#endif

BlockProduct::BlockProduct() = default;
BlockProduct::~BlockProduct() = default;

const BlockProduct* BlockProducts::Get(const BlockShape& shape) {
  if (!enabled_) return nullptr;
  const auto [place, is_new] = products_.try_emplace(shape);
  if (is_new) place->second = BlockProduct::Create(shape);
  return place->second.get();
}

void BlockProducts::Trim() {
  constexpr size_t kMany = 2048;  // some 64 for each head_dim and type in use
  if (products_.size() >= kMany) products_.clear();
}

}  // namespace attendant::engine
