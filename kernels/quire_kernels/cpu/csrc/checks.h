// Checks of tensor arguments, shared by the bindings. A caller's mistake is a ValueError of one line.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels.h"

namespace quire {

// The kernels of the best instruction set of this machine, or of the one chosen with `use_isa`.
const KernelTable& kernels();

inline Dtype dtype_of(const at::Tensor& x, const char* name) {
  TORCH_CHECK_VALUE(x.scalar_type() != at::kHalf, name,
                    " is float16, which is slow on a CPU: convert to bfloat16 (or float32)");
  TORCH_CHECK_VALUE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, name, " is ",
                    x.scalar_type(), "; allowed: float32, bfloat16");
  return x.scalar_type() == at::kFloat ? kFloat32 : kBFloat16;
}

inline void check_type(const at::Tensor& x, const char* name, at::ScalarType type) {
  TORCH_CHECK_VALUE(x.scalar_type() == type, name, " is ", x.scalar_type(), "; it must be ", type);
}

// Element type, rank, and a dense last dimension; all other strides are free.
inline void check(const at::Tensor& x, const char* name, at::ScalarType type, int64_t rank) {
  check_type(x, name, type);
  TORCH_CHECK_VALUE(x.dim() == rank, name, " has ", x.dim(), " dimensions; it must have ", rank);
  TORCH_CHECK_VALUE(x.size(-1) <= 1 || x.stride(-1) == 1, name, " must be contiguous in its last dimension");
}

inline void check_dense(const at::Tensor& x, const char* name, at::ScalarType type) {
  check_type(x, name, type);
  TORCH_CHECK_VALUE(x.is_contiguous(), name, " must be contiguous");
}

// Rows for one thread at least, so that small tensors stay on the calling thread.
inline int64_t row_grain(int64_t elements_per_row) {
  return elements_per_row >= 16384 ? 1 : 16384 / (elements_per_row < 1 ? 1 : elements_per_row);
}

inline void check_size(int64_t size, int64_t expected, const char* what) {
  TORCH_CHECK_VALUE(size == expected, what, " is ", size, "; it must be ", expected);
}

// All of `x` below `end`; a negative entry only where `skips` says that it means "leave this one out".
inline void check_indices(const at::Tensor& x, const char* name, int64_t end, bool skips) {
  const int64_t* values = x.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < x.numel(); ++i)
    TORCH_CHECK_VALUE(values[i] < end && (skips || values[i] >= 0), name, "[", i, "] is ", values[i],
                      "; it must be below ", end);
}

struct CacheShape {
  int64_t kv_heads, block_size, head_dim;
  CacheCode code;
  float *k_scales, *v_scales;
};

inline float* check_scales(const std::optional<at::Tensor>& scales, const char* name, at::IntArrayRef sizes,
                           bool wanted) {
  TORCH_CHECK_VALUE(scales.has_value() == wanted, name,
                    wanted ? " is missing; a cache of int8 or float8_e4m3fn has one"
                           : " is given, but the cache is of the type of k and q");
  if (!wanted) return nullptr;
  check_dense(*scales, name, at::kFloat);
  TORCH_CHECK_VALUE(scales->sizes() == sizes, name, " is ", scales->sizes(), "; it must be ", sizes);
  return scales->mutable_data_ptr<float>();
}

// Reads the geometry off a K and V cache and checks that it is one that `kv_cache_shapes` makes for `type`,
// with elements of that type or of 8 bits.
inline CacheShape check_cache(const at::Tensor& k_cache, const at::Tensor& v_cache, at::ScalarType type,
                              const std::optional<at::Tensor>& k_scales,
                              const std::optional<at::Tensor>& v_scales) {
  const at::ScalarType element = k_cache.scalar_type();
  TORCH_CHECK_VALUE(element == type || element == at::kChar || element == at::kFloat8_e4m3fn, "k_cache is ",
                    element, "; it must be ", type, ", int8 or float8_e4m3fn");
  check_dense(k_cache, "k_cache", element);
  check_dense(v_cache, "v_cache", element);
  const int64_t step = type == at::kBFloat16 ? 2 : 1, rank = step + 3;
  TORCH_CHECK_VALUE(k_cache.dim() == rank && v_cache.dim() == rank, "k_cache and v_cache have ",
                    k_cache.dim(), " and ", v_cache.dim(), " dimensions; kv_cache_shapes gives ", rank);
  CacheShape shape{k_cache.size(1), k_cache.size(3), k_cache.size(2) * step};
  shape.code = element == type ? kPlain : element == at::kChar ? kInt8 : kE4M3;
  bool fits = v_cache.size(0) == k_cache.size(0) && v_cache.size(1) == shape.kv_heads &&
              v_cache.size(2) * step == shape.block_size && v_cache.size(3) == shape.head_dim;
  if (step == 2) fits = fits && k_cache.size(4) == 2 && v_cache.size(4) == 2;
  TORCH_CHECK_VALUE(fits, "k_cache ", k_cache.sizes(), " and v_cache ", v_cache.sizes(),
                    " do not have the shapes that kv_cache_shapes gives");
  const int64_t sizes[] = {k_cache.size(0), shape.kv_heads, shape.block_size};
  shape.k_scales = check_scales(k_scales, "k_scales_NKB", sizes, shape.code != kPlain);
  shape.v_scales = check_scales(v_scales, "v_scales_NKB", sizes, shape.code != kPlain);
  return shape;
}

}  // namespace quire
