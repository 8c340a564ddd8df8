// Vectors of floats for the instruction set that the including translation unit is compiled for.
//
// QUIRE_ISA names the namespace; QUIRE_AVX512 or QUIRE_AVX2 say which intrinsics may be used, QUIRE_BF16
// that those of bfloat16 come on top of AVX-512. Everything else is written with the vector extensions of gcc
// and clang, which any machine can run.
#pragma once

#include "kernels.h"

#if defined(QUIRE_AVX512) || defined(QUIRE_AVX2)
#include <immintrin.h>
#endif

#define QUIRE_INLINE static inline __attribute__((always_inline))

namespace quire::QUIRE_ISA {

#if defined(QUIRE_AVX512)
constexpr int W = 16;
#elif defined(QUIRE_AVX2)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

template <class V, class P>
QUIRE_INLINE V load_as(const P* p) {
  V v;
  memcpy(&v, p, sizeof(V));
  return v;
}
QUIRE_INLINE vf set(float x) { return x - vf{}; }
// 0, 1 and so on.
QUIRE_INLINE vf lanes() {
  vf numbers;
  for (int i = 0; i < W; ++i) numbers[i] = i;
  return numbers;
}
QUIRE_INLINE vf load(const float* p) { return load_as<vf>(p); }
QUIRE_INLINE void store(float* p, vf v) { memcpy(p, &v, sizeof(v)); }

QUIRE_INLINE vf load(const bf16* p) {
  return (vf)(__builtin_convertvector(load_as<vh>(p), vu) << 16);
}

// Rounds to nearest even; a NaN stays one.
QUIRE_INLINE void store(bf16* p, vf v) {
#if defined(QUIRE_BF16)
  __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
  memcpy(p, &rounded, sizeof(rounded));
#else
  vu bits = (vu)v;
  vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  rounded = (vu)(v == v) ? rounded : rounded - rounded + 0x7fc0;
  vh halves = __builtin_convertvector(rounded, vh);
  memcpy(p, &halves, sizeof(halves));
#endif
}

// The first n lanes; the others are zero, and left alone in memory.
template <class T>
QUIRE_INLINE vf load_part(const T* p, int n) {
  T lanes[W] = {};
  memcpy(lanes, p, n * sizeof(T));
  return load(lanes);
}
template <class T>
QUIRE_INLINE void store_part(T* p, vf v, int n) {
  T lanes[W];
  store(lanes, v);
  memcpy(p, lanes, n * sizeof(T));
}

QUIRE_INLINE vf vmax(vf a, vf b) {
#if defined(QUIRE_AVX512)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(QUIRE_AVX2)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

QUIRE_INLINE float reduce_add(vf v) {
#if defined(QUIRE_AVX512)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float sum = 0;
  for (int i = 0; i < W; ++i) sum += v[i];
  return sum;
#endif
}

QUIRE_INLINE float reduce_max(vf v) {
#if defined(QUIRE_AVX512)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float most = v[0];
  for (int i = 1; i < W; ++i) most = v[i] > most ? v[i] : most;
  return most;
#endif
}

// To the nearest integer, ties to even: what a vector's lanes, all within int8, are as integers.
QUIRE_INLINE vi to_integer(vf v) {
#if defined(QUIRE_AVX512)
  return (vi)_mm512_cvtps_epi32((__m512)v);
#elif defined(QUIRE_AVX2)
  return (vi)_mm256_cvtps_epi32((__m256)v);
#else
  vi rounded;
  for (int i = 0; i < W; ++i) rounded[i] = (int32_t)__builtin_rintf(v[i]);
  return rounded;
#endif
}

// e^x within 2 ulp; 0 where that is below the smallest normal number, at most 2.4e38.
// x = n ln 2 + r with |r| <= ln 2 / 2, e^r = 1 + r + r^2 P(r), P minimax of degree 4.
QUIRE_INLINE vf exp(vf x) {
  const float lowest = -87.33654f, highest = 88.376f;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  vf clamped = vmax(x, set(lowest));
  clamped = clamped < highest ? clamped : set(highest);
  vf shifted = clamped * 1.44269504088896341f + magic;
  vf n = shifted - magic;
  vf r = clamped - n * 0.693359375f;  // ln 2 in two parts; the first is exact in n's range
  r = r + n * 2.12194440e-4f;
  vf p = set(0.001395058585330844f);
  p = p * r + 0.008368946611881256f;
  p = p * r + 0.04166620597243309f;
  p = p * r + 0.166665181517601f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  vf scaled = (vf)((vi)p + ((vi)shifted << 23));
  return x < lowest ? vf{} : scaled;
}

// tanh within 3 ulp: an odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
QUIRE_INLINE vf tanh(vf x) {
  vf z = x * x;
  vf p = set(-0.006207427941262722f);
  p = p * z + 0.0210272166877985f;
  p = p * z - 0.05384227633476257f;
  p = p * z + 0.13332499563694f;
  p = p * z - 0.33333316445350647f;
  vf near = x + x * z * p;
  vf size = vmax(x, -x);
  vf far = 1.0f - 2.0f / (exp(size + size) + 1.0f);
  far = x < 0.0f ? -far : far;
  return size < 0.55f ? near : far;
}

}  // namespace quire::QUIRE_ISA
