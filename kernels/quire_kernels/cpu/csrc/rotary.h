// Rotary position embedding of q and k, in place.
#pragma once

#include "norm.h"

namespace quire::QUIRE_ISA {

template <class T>
static void rotary(const RotaryArgs& args, int64_t begin, int64_t end) {
  const int half = args.dims / 2;
  for (int64_t t = begin; t < end; ++t) {
    const float* cos = args.cos_sin + args.positions[t] * args.dims;
    const float* sin = cos + half;
    for (int which = 0; which < 2; ++which) {
      for (int h = 0; h < args.heads[which]; ++h) {
        T* x = (T*)args.x[which] + t * args.stride_t[which] + h * args.stride_h[which];
        if (args.interleaved) {
          for (int i = 0; i < half; ++i) {
            float a = load_part(x + 2 * i, 2)[0], b = load_part(x + 2 * i, 2)[1];
            vf turned = {a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]};
            store_part(x + 2 * i, turned, 2);
          }
        } else {
          each_vector(half, [&](int64_t i, int lanes) __attribute__((always_inline)) {
            vf a = load_lanes(x + i, lanes), b = load_lanes(x + half + i, lanes);
            vf c = load_lanes(cos + i, lanes), s = load_lanes(sin + i, lanes);
            store_lanes(x + i, a * c - b * s, lanes);
            store_lanes(x + half + i, b * c + a * s, lanes);
          });
        }
      }
    }
  }
}

}  // namespace quire::QUIRE_ISA
