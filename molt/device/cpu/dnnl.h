// oneDNN 2 and 3 behind one face: the few calls whose shape differs between them, its engine and stream, and its errors
// as ours.
#pragma once

#include <dnnl.hpp>
#include <string>
#include <vector>

#include "molt/device/matrix.h"

namespace molt::onednn {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;

/// The only engine: the host processor.
dnnl::engine& engine();
/// This thread's stream.
dnnl::stream& stream();

dnnl::memory::data_type data_type(Dtype dtype);

/// dst (m,n) = src (m,k) · weights (k,n), src and dst dense.
struct Product {
  int64_t m = 0, k = 0, n = 0;
  Dtype src = Dtype::kF32, dst = Dtype::kF32;
  bool bias = false;        ///< adds a row of n f32
  bool accumulate = false;  ///< dst += …
};

/// The primitive for a product with weights of a given layout (format `any`: the one oneDNN likes best). Scratch memory
/// is given by the caller. Throws InternalError where oneDNN has no such product.
dnnl::matmul::primitive_desc matmul(const Product& product, const Desc& weights);

/// dst = op(A) · op(B) with bf16 operands that lie anyhow, packed at each call.
void multiply_bf16(const Product& product, const ConstMatrix& a, bool trans_a, const ConstMatrix& b, bool trans_b,
                   void* dst);

/// How a matrix in a blocked layout lies in memory: element (i, j) is at base + row[i] + col[j].
struct BlockedLayout {
  int64_t base = 0;
  std::vector<int64_t> row, col;
};
/// False where the layout is none of oneDNN's blocked ones (plain ones are).
bool blocked_layout(const Desc& desc, BlockedLayout& layout);

/// Name of the instruction set oneDNN uses, and whether it includes AMX.
std::string isa_name();
bool has_amx();
/// Whether products of f32 by a weight row by row are as fast as by any layout: below AVX-512, as measured with oneDNN
/// 2.6 on Zen 3 (it then packs at each product, which costs nothing beside some tens of rows).
bool likes_plain_weights();

/// Runs f; oneDNN's exceptions come out as InternalError that starts with `what`.
template <class F>
auto guarded(const char* what, F&& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    MOLT_CHECK(e.status != dnnl_out_of_memory, what, ": oneDNN ran out of memory");
    MOLT_CHECK(false, what, ": oneDNN: ", e.message);
    throw;
  }
}

}  // namespace molt::onednn
