// Keys and values in 8 bits: what a number divided by its scale is as a byte, and what a byte stands for.
#pragma once

#include "simd.h"

namespace quire::QUIRE_ISA {

typedef int8_t vb __attribute__((vector_size(W)));

// W bytes with their signs.
QUIRE_INLINE vi load_bytes(const int8_t* p) {
#if defined(QUIRE_AVX512)
  return (vi)_mm512_cvtepi8_epi32(load_as<__m128i>(p));
#elif defined(QUIRE_AVX2)
  return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
  return __builtin_convertvector(load_as<vb>(p), vi);  // which gcc 12 makes element by element
#endif
}

struct Int8 {
  static constexpr float most = 127;
  static vi encode(vf v) { return to_integer(v); }
  static vf decode(vi byte) { return __builtin_convertvector(byte, vf); }
};

// The OCP's e4m3: an exponent of 4 bits with bias 7, a mantissa of 3, no infinity.
struct E4M3 {
  static constexpr float most = 448;

  static vi encode(vf v) {
    vu bits = (vu)v & 0x7fffffffu;
    vf size = (vf)bits;
    vu normal = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120u << 3);  // ties to even, bias 127 to 7
    vu subnormal = (vu)(size + 16384.0f) - 0x46800000u;  // a step of 2^-9 is the last bit of 16384
    vu code = size < 0x1p-6f ? subnormal : normal;
    return (vi)(code | ((vu)v >> 24 & 0x80));
  }
  // As a float with the byte's exponent, then the difference of the biases: exact, subnormal numbers too.
  static vf decode(vi byte) {
    return (vf)(((byte << 20) & 0x07f00000) | (byte & (int32_t)0x80000000)) * 0x1p120f;
  }
};

// The scale of d numbers: what makes the largest of them the largest code; NaN if one of them is not finite.
template <class Code, class T>
static float scale_of(const T* x, int d) {
  vi most = {};  // as bits: for numbers without a sign they order as the numbers, with NaN above all
  for (int i = 0; i < d; i += W) {
    vi size = (vi)load(x + i) & 0x7fffffff;
    most = size > most ? size : most;
  }
  int32_t bits = 0;
  for (int i = 0; i < W; ++i) bits = most[i] > bits ? most[i] : bits;
  float largest;
  memcpy(&largest, &bits, sizeof(largest));
  return bits < 0x7f800000 ? largest / Code::most : __builtin_nanf("");
}

// W numbers as codes.
template <class Code>
static vb encode(vf x, float scale) {
  vf v = scale > 0 ? x / scale : vf{};  // numbers that are all 0, or not all finite, have no other
  v = v < Code::most ? v : set(Code::most);
  v = v > -Code::most ? v : set(-Code::most);
  return __builtin_convertvector(Code::encode(v), vb);
}

// `rows` rows of n codes (a multiple of W), `stride` apart, as T in the same places. While they stream by, what
// is `ahead` bytes further is fetched into the cache.
template <class Code, class T>
static void widen_as(const int8_t* from, T* to, int rows, int n, int stride, ptrdiff_t ahead) {
  if (n == stride) n *= rows, rows = 1;
  for (int r = 0; r < rows; ++r, from += stride, to += stride)
    for (int i = 0; i < n; i += W) {
      if (i % 64 == 0) __builtin_prefetch(from + i + ahead);
      store(to + i, Code::decode(load_bytes(from + i)));
    }
}

template <class T>
static void widen(CacheCode code, const int8_t* from, T* to, int rows, int n, int stride, ptrdiff_t ahead) {
  if (code == kInt8)
    widen_as<Int8>(from, to, rows, n, stride, ahead);
  else
    widen_as<E4M3>(from, to, rows, n, stride, ahead);
}

}  // namespace quire::QUIRE_ISA
