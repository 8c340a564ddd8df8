// C [R, N] = A [R, L] B [L, N] with few rows: both products of attention, scores = q K and out = p V.
//
// B is packed as the cache holds it, [L / step, N, step]: element type T is bfloat16 with step 2, so that one
// dot-product instruction takes a pair of it, or float32 with step 1. A is dense along L, in `Product<T>::A`.
// Every element of C is summed in the order of L, whatever the number of rows.
#pragma once

#include "simd.h"

namespace quire::QUIRE_ISA {

template <class T>
struct Product;

template <>
struct Product<float> {
  static constexpr int step = 1;
  typedef float A;
  typedef vf Packed;
  static Packed load_packed(const float* p) { return load(p); }
  static vf dot(vf sum, Packed b, const A* a) { return b * a[0] + sum; }
};

template <>
struct Product<bf16> {
  static constexpr int step = 2;
#if defined(QUIRE_BF16)
  typedef bf16 A;
  typedef __m512bh Packed;
  static Packed load_packed(const bf16* p) {
    Packed packed = load_as<Packed>(p);
    __asm__("" : "+v"(packed));  // gcc would load it again for every row rather than hold it
    return packed;
  }
  static vf dot(vf sum, Packed b, const A* a) {
    int32_t pair = load_as<int32_t>(a);
    return (vf)_mm512_dpbf16_ps((__m512)sum, b, (__m512bh)_mm512_set1_epi32(pair));
  }
#else
  typedef float A;
  struct Packed {
    vf even, odd;
  };
  static Packed load_packed(const bf16* p) {
    vu pairs = load_as<vu>(p);
    return {(vf)(pairs << 16), (vf)(pairs & 0xffff0000u)};
  }
  static vf dot(vf sum, Packed b, const A* a) { return b.odd * a[1] + (b.even * a[0] + sum); }
#endif
};

#if defined(QUIRE_AVX512)
constexpr int kMicroRows = 6, kMicroVectors = 4;
#else
constexpr int kMicroRows = 4, kMicroVectors = 2;  // what 16 registers hold
#endif

// sum[r][v] += A[r, :] B[:, v], in the order of L. Where it `Fetches`, the same place of B `ahead` bytes
// further comes into the cache meanwhile.
template <class T, int R, int V, bool Fetches = true>
QUIRE_INLINE void accumulate(vf (&sum)[R][V], int steps, const typename Product<T>::A* a, int lda, const T* b,
                             int ldb, ptrdiff_t ahead) {
  typedef Product<T> P;
  for (int s = 0; s < steps; ++s) {
    typename P::Packed packed[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const T* place = b + v * W * P::step;
      packed[v] = P::load_packed(place);
      if constexpr (Fetches) __builtin_prefetch((const char*)place + ahead);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = P::dot(sum[r][v], packed[v], a + r * lda + s * P::step);
    b += ldb;
  }
}

// R rows by V vectors of C. `row_scale` null: C is overwritten, else C = C * row_scale[r] + A B.
template <class T, int R, int V>
static inline void micro(int steps, const typename Product<T>::A* a, int lda, const T* b, int ldb, float* c,
                         int ldc, const float* row_scale, ptrdiff_t ahead) {
  vf sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = row_scale ? load(c + r * ldc + v * W) * row_scale[r] : vf{};
  accumulate<T, R, V>(sum, steps, a, lda, b, ldb, ahead);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + r * ldc + v * W, sum[r][v]);
}

template <class T, int V>
static inline void micro_rows(int rows, int steps, const typename Product<T>::A* a, int lda, const T* b,
                              int ldb, float* c, int ldc, const float* row_scale, ptrdiff_t ahead) {
  switch (rows) {
    case 1: return micro<T, 1, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
    case 2: return micro<T, 2, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
    case 3: return micro<T, 3, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
    case 4: return micro<T, 4, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
#if defined(QUIRE_AVX512)
    case 5: return micro<T, 5, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
    case 6: return micro<T, 6, V>(steps, a, lda, b, ldb, c, ldc, row_scale, ahead);
#endif
  }
}

// n is a multiple of W; ldb counts elements from one step of B to the next.
template <class T>
static void gemm(int rows, int n, int steps, const typename Product<T>::A* a, int lda, const T* b, int ldb,
                 float* c, int ldc, const float* row_scale, ptrdiff_t ahead) {
  for (int column = 0; column < n;) {
    int vectors = (n - column) / W;
    if (vectors > kMicroVectors) vectors = kMicroVectors;
    const T* b_column = b + column * Product<T>::step;
    int blocks = (rows + kMicroRows - 1) / kMicroRows;
    for (int row = 0, count; row < rows; row += count, --blocks) {
      count = (rows - row + blocks - 1) / blocks;  // even ones: a block of one row takes as long as one of three
      const auto* a_row = a + row * lda;
      const float* scale = row_scale ? row_scale + row : nullptr;
      float* c_place = c + row * ldc + column;
      ptrdiff_t fetch = row == 0 ? ahead : 0;
      switch (vectors) {
        case 1: micro_rows<T, 1>(count, steps, a_row, lda, b_column, ldb, c_place, ldc, scale, fetch); break;
        case 2: micro_rows<T, 2>(count, steps, a_row, lda, b_column, ldb, c_place, ldc, scale, fetch); break;
#if defined(QUIRE_AVX512)
        case 3: micro_rows<T, 3>(count, steps, a_row, lda, b_column, ldb, c_place, ldc, scale, fetch); break;
        case 4: micro_rows<T, 4>(count, steps, a_row, lda, b_column, ldb, c_place, ldc, scale, fetch); break;
#endif
      }
    }
    column += vectors * W;
  }
}

}  // namespace quire::QUIRE_ISA
