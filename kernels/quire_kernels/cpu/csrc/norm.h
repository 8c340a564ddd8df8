// RMSNorm over rows, with the residual addition that precedes it in a transformer block.
#pragma once

#include "simd.h"

namespace quire::QUIRE_ISA {

// Calls visit(offset, lanes) over `size` elements, the last time with fewer lanes than W where it must.
template <class Visit>
QUIRE_INLINE void each_vector(int64_t size, Visit visit) {
  int64_t i = 0;
  for (; i + W <= size; i += W) visit(i, W);
  if (i < size) visit(i, (int)(size - i));
}
template <class T>
QUIRE_INLINE vf load_lanes(const T* p, int lanes) {
  return lanes == W ? load(p) : load_part(p, lanes);
}
template <class T>
QUIRE_INLINE void store_lanes(T* p, vf v, int lanes) {
  if (lanes == W)
    store(p, v);
  else
    store_part(p, v, lanes);
}

template <class T>
static void rms_norm(const NormArgs& args, int64_t begin, int64_t end) {
  const int size = args.size;
  const T* weight = (const T*)args.weight;
  const float offset = args.unit_offset ? 1 : 0;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t t = row / args.heads, h = row % args.heads;
    const T* x = (const T*)args.x + t * args.x_stride_t + h * args.x_stride_h;
    T* out = (T*)args.out + t * args.out_stride_t + h * args.out_stride_h;
    T* residual = nullptr;
    if (args.residual) residual = (T*)args.residual + t * args.residual_stride_t + h * args.residual_stride_h;

    vf squares = {};
    each_vector(size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vf value = load_lanes(x + i, lanes);
      if (residual) {
        store_lanes(residual + i, value + load_lanes(residual + i, lanes), lanes);
        value = load_lanes(residual + i, lanes);  // what was stored is what is normed
      }
      squares += value * value;
    });
    const float scale = 1 / __builtin_sqrtf(reduce_add(squares) / size + args.eps);
    const T* source = residual ? residual : x;
    each_vector(size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vf value = load_lanes(source + i, lanes);
      store_lanes(out + i, value * scale * (load_lanes(weight + i, lanes) + offset), lanes);
    });
  }
}

}  // namespace quire::QUIRE_ISA
