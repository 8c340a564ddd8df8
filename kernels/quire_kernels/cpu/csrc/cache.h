// Writes new keys and values into the paged cache, in the packed layout that gemm.h reads:
// K [N, K, D / step, B, step] and V [N, K, B / step, D, step], step 2 for bfloat16 and 1 for float32.
#pragma once

#include "gemm.h"

namespace quire::QUIRE_ISA {

template <class T>
static void store_kv(const StoreArgs& args, int64_t begin, int64_t end) {
  constexpr int step = Product<T>::step;
  const int b = args.block_size, d = args.head_dim;
  struct Unit {
    T elements[step];  // what K keeps together
  };
  for (int64_t t = begin; t < end; ++t) {
    const int64_t slot = args.slots[t];
    if (slot < 0) continue;
    const int64_t block = slot / b, offset = slot % b;
    for (int h = 0; h < args.kv_heads; ++h) {
      const int64_t base = (block * args.kv_heads + h) * b * d;
      const Unit* k = (const Unit*)((const T*)args.k + t * args.k_stride_t + h * args.k_stride_h);
      Unit* k_place = (Unit*)((T*)args.k_cache + base) + offset;
      for (int i = 0; i < d / step; ++i) k_place[i * b] = k[i];
      const T* v = (const T*)args.v + t * args.v_stride_t + h * args.v_stride_h;
      T* v_place = (T*)args.v_cache + base + offset / step * step * d + offset % step;
      for (int i = 0; i < d; ++i) v_place[i * step] = v[i];
    }
  }
}

}  // namespace quire::QUIRE_ISA
