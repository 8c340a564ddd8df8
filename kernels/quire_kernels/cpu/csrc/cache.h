// Writes new keys and values into the paged cache, in the packed layout that gemm.h reads:
// K [N, K, D / step, B, step] and V [N, K, B / step, D, step], step 2 for bfloat16 and 1 for float32.
// A cache of 8 bits has the same layout, and the scales [N, K, B].
#pragma once

#include "codes.h"
#include "gemm.h"

namespace quire::QUIRE_ISA {

// Where the elements of one token and head go, from the first of its block and head.
template <int step>
struct Places {
  int64_t b, d, offset;

  int64_t key(int64_t i) const { return (i / step * b + offset) * step + i % step; }
  int64_t value(int64_t i) const { return offset / step * step * d + offset % step + i * step; }
};

template <class T>
static void store_plain(const StoreArgs& args, const T* k, const T* v, int64_t head, int offset) {
  constexpr int step = Product<T>::step;
  const int b = args.block_size, d = args.head_dim;
  struct Unit {
    T elements[step];  // what K keeps together
  };
  const Places<step> places{b, d, offset};
  Unit* k_place = (Unit*)((T*)args.k_cache + head * b * d + places.key(0));
  T* v_place = (T*)args.v_cache + head * b * d + places.value(0);
  for (int i = 0; i < d / step; ++i) k_place[i * b] = ((const Unit*)k)[i];
  for (int i = 0; i < d; ++i) v_place[i * step] = v[i];
}

template <class Code, class T>
static void store_codes(const StoreArgs& args, const T* k, const T* v, int64_t head, int offset) {
  const int b = args.block_size, d = args.head_dim;
  const Places<Product<T>::step> places{b, d, offset};
  auto* k_head = (int8_t*)args.k_cache + head * b * d;
  auto* v_head = (int8_t*)args.v_cache + head * b * d;
  const float k_scale = scale_of<Code>(k, d), v_scale = scale_of<Code>(v, d);
  args.k_scales[head * b + offset] = k_scale;
  args.v_scales[head * b + offset] = v_scale;
  for (int i = 0; i < d; i += W) {
    vb k_codes = encode<Code>(load(k + i), k_scale), v_codes = encode<Code>(load(v + i), v_scale);
    for (int lane = 0; lane < W; ++lane) {
      k_head[places.key(i + lane)] = k_codes[lane];
      v_head[places.value(i + lane)] = v_codes[lane];
    }
  }
}

template <class T>
static void store_kv(const StoreArgs& args, int64_t begin, int64_t end) {
  const int b = args.block_size;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t slot = args.slots[t];
    if (slot < 0) continue;
    for (int h = 0; h < args.kv_heads; ++h) {
      const int64_t head = slot / b * args.kv_heads + h;
      const T* k = (const T*)args.k + t * args.k_stride_t + h * args.k_stride_h;
      const T* v = (const T*)args.v + t * args.v_stride_t + h * args.v_stride_h;
      switch (args.code) {
        case kPlain: store_plain(args, k, v, head, slot % b); break;
        case kInt8: store_codes<Int8>(args, k, v, head, slot % b); break;
        case kE4M3: store_codes<E4M3>(args, k, v, head, slot % b); break;
      }
    }
  }
}

}  // namespace quire::QUIRE_ISA
