// out = x W^T with W as int8 by output column and x made int8 row by row: sums are exact, in int32.
//
// The dot-product instruction of AVX512-VNNI multiplies bytes without a sign by bytes with one. Weights are
// the former: they are kept as w + 128, and sum (w + 128) a = sum w a + 128 sum a, of which the last term is
// known once a row is quantised. The sums start from its negative.
#pragma once

#include "norm.h"
#include "quantised.h"

namespace quire::QUIRE_ISA {

// How four bytes of x along L meet four bytes of each of W columns.
struct Int8Product {
#if defined(QUIRE_AVX512)
  typedef int8_t A;
  typedef __m512i Packed;
  static void put(A* place, const int8_t* quad) { memcpy(place, quad, kInt8Step); }
  static Packed load_packed(const uint8_t* p) {
    Packed packed = load_as<Packed>(p);
    __asm__("" : "+v"(packed));  // gcc would load it again for every row rather than hold it
    return packed;
  }
  static vi dot(vi sum, const Packed& w, const A* a) {
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, w, _mm512_set1_epi32(load_as<int32_t>(a)));
  }
#elif defined(QUIRE_AVX2)
  // Pairs of 16 bits, because sums of two products of bytes would saturate. Elements 0 and 2 go first.
  typedef int16_t A;
  struct Packed {
    __m256i even, odd;
  };
  static void put(A* place, const int8_t* quad) {
    place[0] = quad[0], place[1] = quad[2], place[2] = quad[1], place[3] = quad[3];
  }
  static Packed load_packed(const uint8_t* p) {
    __m256i bytes = load_as<__m256i>(p);
    return {_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16(bytes, 8)};
  }
  static vi dot(vi sum, const Packed& w, const A* a) {
    __m256i even = _mm256_madd_epi16(w.even, _mm256_set1_epi32(load_as<int32_t>(a)));
    __m256i odd = _mm256_madd_epi16(w.odd, _mm256_set1_epi32(load_as<int32_t>(a + 2)));
    return sum + ((vi)even + (vi)odd);
  }
#else
  typedef int8_t A;
  struct Packed {
    vi w[kInt8Step];
  };
  static void put(A* place, const int8_t* quad) { memcpy(place, quad, kInt8Step); }
  static Packed load_packed(const uint8_t* p) {
    vu lanes = load_as<vu>(p);
    return {(vi)(lanes & 255), (vi)(lanes >> 8 & 255), (vi)(lanes >> 16 & 255), (vi)(lanes >> 24)};
  }
  static vi dot(vi sum, const Packed& w, const A* a) {
    return sum + w.w[0] * a[0] + w.w[1] * a[1] + w.w[2] * a[2] + w.w[3] * a[3];
  }
#endif
};

#if defined(QUIRE_AVX512)
constexpr int kInt8Rows = 8, kInt8Vectors = 3;
#else
constexpr int kInt8Rows = 4, kInt8Vectors = 2;  // what 16 registers hold
#endif
constexpr int kStreamAhead = 6144;  // bytes of weights that are fetched before they are used
static_assert(kPanelColumns % (kInt8Vectors * W) == 0 && kPanelRows % kInt8Rows == 0);

static int int8_steps(int length) { return (length + kInt8Step - 1) / kInt8Step; }

static int64_t int8_row_bytes(int length) {
  return (int64_t)int8_steps(length) * kInt8Step * sizeof(Int8Product::A);
}

// One row as integers of at most 127, its scale, and -128 times the sum of the integers.
// A row with an infinity or a NaN gets a scale of NaN, so that its products are NaN.
template <class T>
static void int8_quantise(const Int8Args& args, int64_t begin, int64_t end) {
  typedef Int8Product P;
  const int length = args.length;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = (const T*)args.x + row * args.x_stride;
    auto* values = (P::A*)((char*)args.values + row * int8_row_bytes(length));
    vi most = {};  // as bits: for numbers without a sign they order as the numbers, with NaN above all
    each_vector(length, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vi size = (vi)load_lanes(x + i, lanes) & 0x7fffffff;
      most = size > most ? size : most;
    });
    int32_t bits = 0;
    for (int i = 0; i < W; ++i) bits = most[i] > bits ? most[i] : bits;
    const bool finite = bits < 0x7f800000;
    float largest;
    memcpy(&largest, &bits, sizeof(largest));
    const float inverse = finite && largest > 0 ? 127 / largest : 0;
    const vf factor = set(inverse < 3.4e38f ? inverse : 3.4e38f);  // 127 / largest may overflow
    args.row_scales[row] = finite ? largest / 127 : __builtin_nanf("");

    vi sum = {};
    each_vector(length, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vi integers = finite ? to_integer(load_lanes(x + i, lanes) * factor) : vi{};
      sum += integers;
#if defined(QUIRE_AVX512)
      __m128i bytes = _mm512_cvtepi32_epi8((__m512i)integers);
      if (lanes == W)
        memcpy(values + i, &bytes, sizeof(bytes));
      else
        memcpy(values + i, &bytes, (lanes + kInt8Step - 1) / kInt8Step * kInt8Step);
#else
      for (int lane = 0; lane < lanes; lane += kInt8Step) {
        int8_t quad[kInt8Step];
        for (int j = 0; j < kInt8Step; ++j) quad[j] = (int8_t)integers[lane + j];
        P::put(values + i + lane, quad);
      }
#endif
    });
    int32_t total = 0;
    for (int i = 0; i < W; ++i) total += sum[i];
    args.row_offsets[row] = -128 * total;
  }
}

// R rows by V vectors. While the panel streams by, `fetch` and what follows is fetched into the cache.
template <class T, int R, int V>
static inline void int8_micro(const Int8Args& args, int row, int column, const char* fetch, int fetch_step) {
  typedef Int8Product P;
  const int steps = int8_steps(args.length), lda = steps * kInt8Step;
  const auto* a = (const P::A*)args.values + (int64_t)row * lda;
  const uint8_t* w = args.weight + (int64_t)(column / kPanelColumns) * lda * kPanelColumns +
                     column % kPanelColumns * kInt8Step;
  vi sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) sum[r][v] = vi{} + args.row_offsets[row + r];

  for (int s = 0; s < steps; ++s) {
    P::Packed packed[V];
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      packed[v] = P::load_packed(w + v * W * kInt8Step);
      __builtin_prefetch(fetch + v * 64);
    }
    fetch += fetch_step;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v)
        sum[r][v] = P::dot(sum[r][v], packed[v], a + (int64_t)r * lda + s * kInt8Step);
    w += kPanelColumns * kInt8Step;
  }

#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      const int place = column + v * W, lanes = args.columns - place < W ? args.columns - place : W;
      if (lanes <= 0) continue;
      vf value = __builtin_convertvector(sum[r][v], vf) * args.row_scales[row + r];
      value = value * load_lanes(args.scales + place, lanes);
      if (args.bias) value = value + load_lanes(args.bias + place, lanes);
      const int64_t at = (row + r) * args.out_stride + place;
      if (args.out_float)
        store_lanes((float*)args.out + at, value, lanes);
      else
        store_lanes((T*)args.out + at, value, lanes);
    }
}

template <class T>
static inline void int8_rows(const Int8Args& args, int count, int row, int column, const char* fetch,
                             int step) {
  constexpr int V = kInt8Vectors;
  switch (count) {
    case 1: return int8_micro<T, 1, V>(args, row, column, fetch, step);
    case 2: return int8_micro<T, 2, V>(args, row, column, fetch, step);
    case 3: return int8_micro<T, 3, V>(args, row, column, fetch, step);
    case 4: return int8_micro<T, 4, V>(args, row, column, fetch, step);
#if defined(QUIRE_AVX512)
    case 5: return int8_micro<T, 5, V>(args, row, column, fetch, step);
    case 6: return int8_micro<T, 6, V>(args, row, column, fetch, step);
    case 7: return int8_micro<T, 7, V>(args, row, column, fetch, step);
    case 8: return int8_micro<T, 8, V>(args, row, column, fetch, step);
#endif
  }
}

// Work items: each panel with `kPanelRows` rows after the other, so that a panel is read once.
template <class T>
static void int8_multiply(const Int8Args& args, int64_t begin, int64_t end) {
  const int chunks = (args.rows + kPanelRows - 1) / kPanelRows;
  const int64_t panel_bytes = (int64_t)int8_steps(args.length) * kInt8Step * kPanelColumns;
  for (int64_t item = begin; item < end; ++item) {
    const int panel = (int)(item / chunks), first = (int)(item % chunks) * kPanelRows;
    const int last = args.rows - first < kPanelRows ? args.rows : first + kPanelRows;
    const char* here = (const char*)args.weight + panel * panel_bytes;
    for (int row = first; row < last; row += kInt8Rows) {
      const int count = last - row < kInt8Rows ? last - row : kInt8Rows;
      const bool streams = row == 0;
      for (int column = 0; column < kPanelColumns; column += kInt8Vectors * W)
        int8_rows<T>(args, count, row, panel * kPanelColumns + column,
                     streams ? here + (args.rows > kInt8Rows ? panel_bytes : kStreamAhead) : here,
                     streams ? kPanelColumns * kInt8Step : 0);
    }
  }
}

constexpr Int8Kernels int8_kernels = {
    int8_row_bytes,
    {int8_quantise<float>, int8_quantise<bf16>},
    {int8_multiply<float>, int8_multiply<bf16>},
};

}  // namespace quire::QUIRE_ISA
