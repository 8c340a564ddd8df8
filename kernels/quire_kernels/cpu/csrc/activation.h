// Gated activations: act(gate) * up.
#pragma once

#include "norm.h"

namespace quire::QUIRE_ISA {

template <class T, bool gelu>
static void act_mul_rows(const ActArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = (const T*)args.gate_up + t * args.gate_up_stride;
    const T* up = gate + args.size;
    T* out = (T*)args.out + t * args.out_stride;
    each_vector(args.size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vf x = load_lanes(gate + i, lanes);
      // gelu: x / 2 (1 + tanh u) = x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3)
      vf exponent = gelu ? x * (x * x * -0.0713548162726f - 1.5957691216057308f) : -x;
      store_lanes(out + i, x / (exp(exponent) + 1.0f) * load_lanes(up + i, lanes), lanes);
    });
  }
}

template <class T>
static void act_mul(const ActArgs& args, int64_t begin, int64_t end) {
  if (args.gelu)
    act_mul_rows<T, true>(args, begin, end);
  else
    act_mul_rows<T, false>(args, begin, end);
}

}  // namespace quire::QUIRE_ISA
