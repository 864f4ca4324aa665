// The calls that differ between oneDNN 2 and 3.
#include "molt/device/cpu/dnnl.h"

#include <cstdlib>
#include <optional>
#include <string_view>

#include "molt/device/convert.h"
#include "molt/device/cpu/scratch.h"

namespace molt::onednn {
namespace {

/// MOLT_SIMD holds oneDNN back too. Before main: its first call settles the matter.
[[maybe_unused]] const bool held_back = [] {
  const char* wish = std::getenv("MOLT_SIMD");
  const std::string_view level = wish ? wish : "";
  if (level == "avx2") dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
  if (level == "baseline") dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
  return true;
}();

}  // namespace

dnnl::engine& engine() {
  static auto* const instance = new dnnl::engine(dnnl::engine::kind::cpu, 0);  // outlives every static that uses it
  return *instance;
}

dnnl::stream& stream() {
  thread_local dnnl::stream instance(engine());
  return instance;
}

dnnl::memory::data_type data_type(Dtype dtype) {
  MOLT_CHECK(dtype == Dtype::kF32 || dtype == Dtype::kBf16, "gemm: oneDNN is not used for ", dtype_name(dtype));
  return dtype == Dtype::kF32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

namespace {
dnnl::matmul::primitive_desc matmul_of(const Product& p, const Desc& src, const Desc& weights) {
  return guarded("gemm", [&] {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const Desc dst({p.m, p.n}, data_type(p.dst), Tag::ab);
    const Desc bias = p.bias ? Desc({1, p.n}, data_type(Dtype::kF32), Tag::ab) : Desc();
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::matmul::primitive_desc(engine(), src, weights, bias, dst, attributes);
#else
    return dnnl::matmul::primitive_desc(dnnl::matmul::desc(src, weights, bias, dst), attributes, engine());
#endif
  });
}
}  // namespace

dnnl::matmul::primitive_desc matmul(const Product& p, const Desc& weights) {
  return matmul_of(p, Desc({p.m, p.k}, data_type(p.src), Tag::ab), weights);
}

void multiply_bf16(const Product& p, const ConstMatrix& a, bool trans_a, const ConstMatrix& b, bool trans_b,
                   void* dst) {
  // oneDNN has no fast kernel for rows with gaps.
  std::optional<Scratch> dense_a, dense_b;
  const auto dense = [](const ConstMatrix& m, std::optional<Scratch>& keep) {
    if (m.dense()) return const_cast<void*>(m.data);
    keep.emplace(m.rows, m.cols, m.dtype);
    convert(m, keep->view);
    return keep->view.data;
  };
  const Desc src({p.m, p.k}, data_type(Dtype::kBf16), trans_a ? Tag::ba : Tag::ab);
  const Desc weights({p.k, p.n}, data_type(Dtype::kBf16), trans_b ? Tag::ba : Tag::ab);
  const auto pd = matmul_of(p, src, weights);
  guarded("gemm", [&] {
    const auto scratch = Block::allocate(Device::kCpu, pd.scratchpad_desc().get_size());
    dnnl::matmul(pd).execute(stream(), {{DNNL_ARG_SRC, {src, engine(), dense(a, dense_a)}},
                                        {DNNL_ARG_WEIGHTS, {weights, engine(), dense(b, dense_b)}},
                                        {DNNL_ARG_DST, {pd.dst_desc(), engine(), dst}},
                                        {DNNL_ARG_SCRATCHPAD, {pd.scratchpad_desc(), engine(), scratch->data()}}});
    stream().wait();
  });
}

namespace {

#if DNNL_VERSION_MAJOR >= 3
struct Blocks {
  explicit Blocks(const Desc& desc)
      : blocked(desc.get_format_kind() == dnnl::memory::format_kind::blocked), dims(desc.get_dims()) {
    if (!blocked) return;
    strides = desc.get_strides(), sizes = desc.get_inner_blks(), of = desc.get_inner_idxs();
    base = desc.get_submemory_offset();
  }
#else
struct Blocks {
  explicit Blocks(const Desc& desc) : blocked(desc.data.format_kind == dnnl_blocked), dims(desc.dims()) {
    if (!blocked) return;
    const auto& b = desc.data.format_desc.blocking;
    strides.assign(b.strides, b.strides + desc.data.ndims);
    sizes.assign(b.inner_blks, b.inner_blks + b.inner_nblks);
    of.assign(b.inner_idxs, b.inner_idxs + b.inner_nblks);
    base = desc.data.offset0;
  }
#endif
  bool blocked;
  std::vector<int64_t> dims, strides;
  std::vector<int64_t> sizes, of;  // the dense innermost blocks, outermost first: how many entries of which dimension
  int64_t base = 0;
};

/// Offsets of the entries of one dimension.
std::vector<int64_t> offsets(const Blocks& b, int64_t dim) {
  int64_t block = 1;
  for (size_t i = 0; i < b.sizes.size(); ++i)
    if (b.of[i] == dim) block *= b.sizes[i];
  std::vector<int64_t> result(static_cast<size_t>(b.dims[static_cast<size_t>(dim)]));
  for (size_t e = 0; e < result.size(); ++e) {
    int64_t inside = static_cast<int64_t>(e) % block, step = 1;
    result[e] = static_cast<int64_t>(e) / block * b.strides[static_cast<size_t>(dim)];
    for (size_t i = b.sizes.size(); i-- > 0; step *= b.sizes[i])
      if (b.of[i] == dim) {
        result[e] += inside % b.sizes[i] * step;
        inside /= b.sizes[i];
      }
  }
  return result;
}

}  // namespace

bool blocked_layout(const Desc& desc, BlockedLayout& layout) {
  const Blocks blocks(desc);
  if (!blocks.blocked || blocks.dims.size() != 2) return false;
  layout = {blocks.base, offsets(blocks, 0), offsets(blocks, 1)};
  return true;
}

namespace {
bool isa_includes(dnnl::cpu_isa isa) {
  // The values are sets of features as bits; a machine without names for its features answers 0.
  const auto have = static_cast<unsigned>(dnnl::get_effective_cpu_isa()), want = static_cast<unsigned>(isa);
  return (have & want) == want;
}
}  // namespace

std::string isa_name() {
  const std::pair<dnnl::cpu_isa, const char*> names[] = {{dnnl::cpu_isa::avx512_core_amx, "avx512_core_amx"},
                                                         {dnnl::cpu_isa::avx512_core_bf16, "avx512_core_bf16"},
                                                         {dnnl::cpu_isa::avx512_core_vnni, "avx512_core_vnni"},
                                                         {dnnl::cpu_isa::avx512_core, "avx512_core"},
                                                         {dnnl::cpu_isa::avx2_vnni, "avx2_vnni"},
                                                         {dnnl::cpu_isa::avx2, "avx2"},
                                                         {dnnl::cpu_isa::avx, "avx"},
                                                         {dnnl::cpu_isa::sse41, "sse41"}};
  for (const auto& [isa, name] : names)
    if (isa_includes(isa)) return name;
  return "generic";
}

bool likes_plain_weights() { return !isa_includes(dnnl::cpu_isa::avx512_core); }
bool has_amx() { return isa_includes(dnnl::cpu_isa::avx512_core_amx); }

}  // namespace molt::onednn
