// The ops that work row by row: store_kv, rms_norm, rotary, act_mul; and the choice of instruction set.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "checks.h"

namespace quire {
namespace {

struct Isa {
  const char* name;
  const KernelTable* kernels;
};

// Best first, only those that this machine runs.
std::vector<Isa> supported() {
  std::vector<Isa> isas;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (avx512 && __builtin_cpu_supports("avx512bf16"))
    isas.push_back({"avx512_bf16", &avx512_bf16::kernels});
  if (avx512) isas.push_back({"avx512", &avx512::kernels});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    isas.push_back({"avx2", &avx2::kernels});
#endif
  isas.push_back({"baseline", &baseline::kernels});
  return isas;
}

std::atomic<const KernelTable*> chosen{supported()[0].kernels};

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa& isa : supported()) names.push_back(isa.name);
  return names;
}

void use_isa(const std::string& name) {
  for (const Isa& isa : supported())
    if (isa.name == name) {
      chosen = isa.kernels;
      return;
    }
  TORCH_CHECK_VALUE(false, "instruction set '", name, "' is not one that this machine supports");
}

// Rows for one thread at least, so that small tensors stay on the calling thread.
int64_t grain(int64_t elements_per_row) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements_per_row));
}

void store_kv(const at::Tensor& k, const at::Tensor& v, at::Tensor& k_cache, at::Tensor& v_cache,
              const at::Tensor& slots, const std::optional<at::Tensor>& k_scales,
              const std::optional<at::Tensor>& v_scales) {
  const Dtype dtype = dtype_of(k, "k_TKD");
  check(k, "k_TKD", k.scalar_type(), 3);
  check(v, "v_TKD", k.scalar_type(), 3);
  check_dense(slots, "slots_T", at::kLong);
  const CacheShape cache = check_cache(k_cache, v_cache, k.scalar_type(), k_scales, v_scales);
  const int64_t sizes[] = {slots.numel(), cache.kv_heads, cache.head_dim};
  TORCH_CHECK_VALUE(k.sizes() == at::IntArrayRef(sizes) && v.sizes() == k.sizes(), "k_TKD is ", k.sizes(),
                    " and v_TKD is ", v.sizes(), "; slots_T and the cache ask for ", at::IntArrayRef(sizes));
  check_indices(slots, "slots_T", k_cache.size(0) * cache.block_size, true);
  StoreArgs args{k.const_data_ptr(), v.const_data_ptr(), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
                 k_cache.mutable_data_ptr(), v_cache.mutable_data_ptr(), cache.code, cache.k_scales,
                 cache.v_scales, slots.const_data_ptr<int64_t>(), (int)cache.kv_heads, (int)cache.head_dim, (int)cache.block_size};
  auto work = kernels().store_kv[dtype];
  at::parallel_for(0, slots.numel(), grain(2 * cache.kv_heads * cache.head_dim),
                   [&](int64_t begin, int64_t end) { work(args, begin, end); });
}

struct Strides {
  int64_t t, h;
};

Strides row_strides(const at::Tensor& x) { return {x.stride(0), x.dim() == 3 ? x.stride(1) : 0}; }

void rms_norm(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, double eps,
              const std::optional<at::Tensor>& residual, bool unit_offset) {
  const Dtype dtype = dtype_of(x, "x_TE");
  TORCH_CHECK_VALUE(x.dim() == 2 || x.dim() == 3, "x_TE has ", x.dim(), " dimensions; allowed: 2 or 3");
  check(x, "x_TE", x.scalar_type(), x.dim());
  check(out, "out_TE", x.scalar_type(), x.dim());
  check_dense(weight, "weight_E", x.scalar_type());
  check_size(weight.numel(), x.size(-1), "the length of weight_E");
  TORCH_CHECK_VALUE(out.sizes() == x.sizes(), "out_TE is ", out.sizes(), "; it must be ", x.sizes());
  NormArgs args{};
  args.x = x.const_data_ptr(), args.out = out.mutable_data_ptr(), args.weight = weight.const_data_ptr();
  args.x_stride_t = row_strides(x).t, args.x_stride_h = row_strides(x).h;
  args.out_stride_t = row_strides(out).t, args.out_stride_h = row_strides(out).h;
  if (residual) {
    check(*residual, "residual_TE", x.scalar_type(), x.dim());
    TORCH_CHECK_VALUE(residual->sizes() == x.sizes(), "residual_TE is ", residual->sizes(), "; it must be ",
                      x.sizes());
    args.residual = residual->mutable_data_ptr();
    args.residual_stride_t = row_strides(*residual).t, args.residual_stride_h = row_strides(*residual).h;
  }
  args.heads = x.dim() == 3 ? x.size(1) : 1;
  args.size = x.size(-1);
  args.eps = eps;
  args.unit_offset = unit_offset;
  auto work = kernels().rms_norm[dtype];
  at::parallel_for(0, x.size(0) * args.heads, grain(args.size),
                   [&](int64_t begin, int64_t end) { work(args, begin, end); });
}

void rotary(at::Tensor& q, at::Tensor& k, const at::Tensor& positions, const at::Tensor& cos_sin,
            bool interleaved) {
  const Dtype dtype = dtype_of(q, "q_THD");
  check(q, "q_THD", q.scalar_type(), 3);
  check(k, "k_TKD", q.scalar_type(), 3);
  check_dense(positions, "positions_T", at::kLong);
  check_dense(cos_sin, "cos_sin_PR", at::kFloat);
  const int64_t dims = cos_sin.size(-1);
  TORCH_CHECK_VALUE(dims % 2 == 0 && dims <= q.size(2), "cos_sin_PR has ", dims,
                    " columns; they must be even and at most the head dimension, ", q.size(2));
  check_size(q.size(0), positions.numel(), "the number of rows of q_THD");
  check_size(k.size(0), positions.numel(), "the number of rows of k_TKD");
  check_size(k.size(2), q.size(2), "the head dimension of k_TKD");
  check_indices(positions, "positions_T", cos_sin.size(0), false);
  RotaryArgs args{{q.mutable_data_ptr(), k.mutable_data_ptr()},
                  {q.stride(0), k.stride(0)},
                  {q.stride(1), k.stride(1)},
                  {(int)q.size(1), (int)k.size(1)},
                  positions.const_data_ptr<int64_t>(),
                  cos_sin.const_data_ptr<float>(),
                  (int)dims,
                  interleaved};
  auto work = kernels().rotary[dtype];
  at::parallel_for(0, positions.numel(), grain((q.size(1) + k.size(1)) * dims),
                   [&](int64_t begin, int64_t end) { work(args, begin, end); });
}

void act_mul(const at::Tensor& gate_up, at::Tensor& out, c10::string_view activation) {
  const Dtype dtype = dtype_of(gate_up, "gate_up_T2I");
  TORCH_CHECK_VALUE(activation == "silu" || activation == "gelu_tanh", "activation '", activation,
                    "' is unknown; allowed: 'silu', 'gelu_tanh'");
  check(gate_up, "gate_up_T2I", gate_up.scalar_type(), 2);
  check(out, "out_TI", gate_up.scalar_type(), 2);
  check_size(gate_up.size(1), 2 * out.size(1), "the width of gate_up_T2I");
  check_size(gate_up.size(0), out.size(0), "the number of rows of gate_up_T2I");
  ActArgs args{gate_up.const_data_ptr(), out.mutable_data_ptr(), gate_up.stride(0),
               out.stride(0),            out.size(1),            activation == "gelu_tanh"};
  auto work = kernels().act_mul[dtype];
  at::parallel_for(0, out.size(0), grain(2 * out.size(1)),
                   [&](int64_t begin, int64_t end) { work(args, begin, end); });
}

}  // namespace

const KernelTable& kernels() { return *chosen.load(std::memory_order_relaxed); }

TORCH_LIBRARY_FRAGMENT(quire_cpu, m) {
  m.def("isas() -> str[]", isas);
  m.def("use_isa(str name) -> ()", use_isa);
  m.def(
      "store_kv(Tensor k, Tensor v, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor slots, "
      "Tensor(c!)? k_scales, Tensor(d!)? v_scales) -> ()");
  m.def(
      "rms_norm(Tensor x, Tensor weight, Tensor(a!) out, float eps, Tensor(b!)? residual, bool unit_offset) "
      "-> ()");
  m.def("rotary(Tensor(a!) q, Tensor(b!) k, Tensor positions, Tensor cos_sin, bool interleaved) -> ()");
  m.def("act_mul(Tensor gate_up, Tensor(a!) out, str activation) -> ()");
}

TORCH_LIBRARY_IMPL(quire_cpu, CPU, m) {
  m.impl("store_kv", store_kv);
  m.impl("rms_norm", rms_norm);
  m.impl("rotary", rotary);
  m.impl("act_mul", act_mul);
}

}  // namespace quire
