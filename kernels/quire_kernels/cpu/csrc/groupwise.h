// out = x W^T with W as 4-bit or 8-bit integers, a scale (and perhaps a zero) for each group of a column's
// neighbours along L, and x as it is.
//
// Integers less their zero are exact in bfloat16, so a group's sum runs over integers and is scaled once, in
// float32. A tile of a panel becomes floats at a time, in the first-level cache, for all rows of a work item.
#pragma once

#include "gemm.h"
#include "norm.h"
#include "quantised.h"

namespace quire::QUIRE_ISA {

constexpr int kGroupwiseAhead = 4096;  // bytes of weights that are fetched before they are used
constexpr int kGroupwiseVectors = kMicroVectors < 3 ? kMicroVectors : 3;
constexpr int kTileDepth = 256;  // weights of a column that a tile holds for many rows
constexpr int kFewRows = 12;     // so many at most are quicker with a tile of one group
constexpr int kDirectRows = 8;   // and so many with none, where that can be
static_assert(kPanelColumns % (kGroupwiseVectors * W) == 0 && kTileDepth % kMaxGroup == 0);

template <int Bits>
QUIRE_INLINE vi integers(vu lanes, int place) {
  return (vi)(lanes >> groupwise_shift(Bits, place) & ((1 << Bits) - 1));
}

// `count` lanes of W columns of a panel, less their zeros, as `accumulate` reads its operand B.
template <int Bits>
static inline void unpack(const uint32_t* weight, int count, vi zeros, float* tile) {
  for (int i = 0; i < count; ++i, weight += kPanelColumns) {
    vu lanes = load_as<vu>(weight);
    __builtin_prefetch((const char*)weight + kGroupwiseAhead);
#pragma GCC unroll 8
    for (int l = 0; l < 32 / Bits; ++l, tile += kPanelColumns)
      store(tile, __builtin_convertvector(integers<Bits>(lanes, l) - zeros, vf));
  }
}

#if defined(QUIRE_AVX512)
// From -16 to 15, as bfloat16.
struct Differences {
  alignas(64) uint16_t bits[32];
  constexpr Differences() : bits() {
    for (int i = 0; i < 32; ++i) bits[i] = __builtin_bit_cast(uint32_t, (float)(i - 16)) >> 16;
  }
};
constexpr Differences kDifferences;

// The 8 weights of each lane, less their zeros, pair by pair. All differences of two integers of 4 bits are
// in a table, by their value plus 16. A lookup reads the low 5 bits of each 16-bit word alone, so that two of
// a word's weights are readied at once, a byte apart.
struct Nibbles {
  vu even, odd;
  Nibbles(vu lanes, vu shift)
      : even((lanes & 0x0f0f0f0fu) + shift), odd((lanes >> 4 & 0x0f0f0f0fu) + shift) {}
  static vu shift_of(vi zeros) { return (vu)(16 - zeros) * 0x01010101u; }
  __m512i pair(int index, __m512i table) const {
    const vu words = index % 2 ? odd : even;
    return _mm512_permutexvar_epi16((__m512i)(index < 2 ? words : words >> 8), table);
  }
};

static inline void unpack_by_table(const uint32_t* weight, int count, vi zeros, bf16* tile) {
  const __m512i table = load_as<__m512i>(kDifferences.bits);
  const vu shift = Nibbles::shift_of(zeros);
  for (int i = 0; i < count; ++i, weight += kPanelColumns, tile += 8 * kPanelColumns) {
    __builtin_prefetch((const char*)weight + kGroupwiseAhead);
    const Nibbles weights(load_as<vu>(weight), shift);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const __m512i both = weights.pair(pair, table);
      memcpy(tile + pair * 2 * kPanelColumns, &both, sizeof(both));
    }
  }
}
#endif

template <int Bits>
static inline void unpack(const uint32_t* weight, int count, vi zeros, bf16* tile) {
#if defined(QUIRE_AVX512)
  if constexpr (Bits == 4) return unpack_by_table(weight, count, zeros, tile);
#endif
  for (int i = 0; i < count; ++i, weight += kPanelColumns) {
    vu lanes = load_as<vu>(weight);
    __builtin_prefetch((const char*)weight + kGroupwiseAhead);
#pragma GCC unroll 4
    for (int pair = 0; pair < 16 / Bits; ++pair, tile += 2 * kPanelColumns) {
      vu even = (vu)__builtin_convertvector(integers<Bits>(lanes, 2 * pair) - zeros, vf);
      vu odd = (vu)__builtin_convertvector(integers<Bits>(lanes, 2 * pair + 1) - zeros, vf);
      vu both = even >> 16 | (odd & 0xffff0000u);
      memcpy(tile, &both, sizeof(both));
    }
  }
}

QUIRE_INLINE vi group_zeros(const uint8_t* zeros, int bits) {
  if (!zeros) return vi{} + (1 << (bits - 1));
  typedef uint8_t vb __attribute__((vector_size(W)));
  return __builtin_convertvector(load_as<vb>(zeros), vi);
}

// Weights `start` to `start + depth` of all columns of a panel.
template <class T, int Bits>
static void fill_tile(const GroupwiseArgs& args, int64_t panel, int start, int depth, T* tile) {
  constexpr int kLane = 32 / Bits;
  const int groups = (args.length + args.group - 1) / args.group;
  const uint32_t* weight = args.weight + (panel * args.padded + start) / kLane * kPanelColumns;
  for (int first = 0; first < depth; first += args.group) {
    const int size = depth - first < args.group ? depth - first : args.group;
    const int64_t scaled = (panel * groups + (start + first) / args.group) * kPanelColumns;
    for (int column = 0; column < kPanelColumns; column += W)
      unpack<Bits>(weight + first / kLane * kPanelColumns + column, size / kLane,
                   group_zeros(args.zeros ? args.zeros + scaled + column : nullptr, Bits),
                   tile + (int64_t)first * kPanelColumns + column * Product<T>::step);
  }
}

// Adds R rows' products with a tile to their totals.
template <class T, int R>
static inline void add_tile(const typename Product<T>::A* a, int lda, int depth, int group, const T* tile,
                            const float* scales, float* total) {
  constexpr int V = kGroupwiseVectors, step = Product<T>::step;
  for (int column = 0; column < kPanelColumns; column += V * W) {
    const float* scale = scales + column;
    for (int start = 0; start < depth; start += group, scale += kPanelColumns) {
      const int size = depth - start < group ? depth - start : group;
      vf sum[R][V] = {};
      const T* b = tile + start * kPanelColumns + column * step;
      accumulate<T, R, V, false>(sum, size / step, a + start, lda, b, kPanelColumns * step, 0);
      __asm__("" : : : "memory");  // gcc would hold the totals of all groups in registers that it lacks
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          float* place = total + r * kPanelColumns + column + v * W;
          store(place, load(place) + sum[r][v] * load(scale + v * W));
        }
    }
  }
}

template <class T>
static void add_tile_rows(int rows, const typename Product<T>::A* a, int lda, int depth, int group,
                          const T* tile, const float* scales, float* total) {
  int blocks = (rows + kMicroRows - 1) / kMicroRows;
  for (int row = 0, count; row < rows; row += count, --blocks) {
    count = (rows - row + blocks - 1) / blocks;
    const auto* a_row = a + (int64_t)row * lda;
    float* place = total + row * kPanelColumns;
    switch (count) {
      case 1: add_tile<T, 1>(a_row, lda, depth, group, tile, scales, place); break;
      case 2: add_tile<T, 2>(a_row, lda, depth, group, tile, scales, place); break;
      case 3: add_tile<T, 3>(a_row, lda, depth, group, tile, scales, place); break;
      case 4: add_tile<T, 4>(a_row, lda, depth, group, tile, scales, place); break;
#if defined(QUIRE_AVX512)
      case 5: add_tile<T, 5>(a_row, lda, depth, group, tile, scales, place); break;
      case 6: add_tile<T, 6>(a_row, lda, depth, group, tile, scales, place); break;
#endif
    }
  }
}

#if defined(QUIRE_BF16)
// All of R rows' products with a panel of 4-bit weights, which are used as they are unpacked, with no tile
// between.
template <int R>
static inline void multiply_direct(const GroupwiseArgs& args, int64_t panel, const bf16* a, float* total) {
  constexpr int V = kPanelColumns / W;
  const __m512i table = load_as<__m512i>(kDifferences.bits);
  const int groups = (args.length + args.group - 1) / args.group;
  const uint32_t* weight = args.weight + panel * args.padded / 8 * kPanelColumns;
  vf totals[R][V] = {};
  for (int group = 0; group < groups; ++group) {
    const int64_t scaled = (panel * groups + group) * kPanelColumns;
    const int start = group * args.group;
    const int end = args.padded - start < args.group ? args.padded : start + args.group;
    vu shift[V];
    for (int v = 0; v < V; ++v)
      shift[v] = Nibbles::shift_of(group_zeros(args.zeros ? args.zeros + scaled + v * W : nullptr, 4));
    vf sum[R][V] = {};
    for (int i = start; i < end; i += 8, weight += kPanelColumns) {
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) {
        __builtin_prefetch((const char*)(weight + v * W) + kGroupwiseAhead);
        const Nibbles weights(load_as<vu>(weight + v * W), shift[v]);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; ++pair) {
          const auto both = (Product<bf16>::Packed)weights.pair(pair, table);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r)
            sum[r][v] = Product<bf16>::dot(sum[r][v], both, a + r * args.x_stride + i + 2 * pair);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) totals[r][v] += sum[r][v] * load(args.scales + scaled + v * W);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) store(total + r * kPanelColumns + v * W, totals[r][v]);
}

static void multiply_direct(const GroupwiseArgs& args, int64_t panel, int64_t first, int rows, float* total) {
  int blocks = (rows + kMicroRows - 1) / kMicroRows;
  for (int row = 0, count; row < rows; row += count, --blocks) {
    count = (rows - row + blocks - 1) / blocks;
    const bf16* a = (const bf16*)args.x + (first + row) * args.x_stride;
    float* place = total + row * kPanelColumns;
    switch (count) {
      case 1: multiply_direct<1>(args, panel, a, place); break;
      case 2: multiply_direct<2>(args, panel, a, place); break;
      case 3: multiply_direct<3>(args, panel, a, place); break;
      case 4: multiply_direct<4>(args, panel, a, place); break;
      case 5: multiply_direct<5>(args, panel, a, place); break;
      case 6: multiply_direct<6>(args, panel, a, place); break;
    }
  }
}
#endif

template <class T>
static void store_totals(const GroupwiseArgs& args, int64_t first, int rows, int64_t panel,
                         const float* total) {
  const int64_t left = args.columns - panel * kPanelColumns;
  const int columns = left < kPanelColumns ? (int)left : kPanelColumns;
  for (int row = 0; row < rows; ++row) {
    const int64_t at = (first + row) * args.out_stride + panel * kPanelColumns;
    each_vector(columns, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vf value = load(total + row * kPanelColumns + i);
      if (args.bias) value += load_lanes(args.bias + panel * kPanelColumns + i, lanes);
      if (args.out_float)
        store_lanes((float*)args.out + at + i, value, lanes);
      else
        store_lanes((T*)args.out + at + i, value, lanes);
    });
  }
}

// The products of some rows with a panel, tile by tile.
template <class T, int Bits>
static void multiply_tiles(const GroupwiseArgs& args, int64_t panel, int64_t first, int rows, float* total) {
  typedef typename Product<T>::A A;
  alignas(64) T tile[kTileDepth * kPanelColumns];
  const int groups = (args.length + args.group - 1) / args.group;
  const int most = rows <= kFewRows ? args.group : kTileDepth / args.group * args.group;
  memset(total, 0, sizeof(float) * rows * kPanelColumns);
  for (int start = 0; start < args.padded; start += most) {
    const int depth = args.padded - start < most ? args.padded - start : most;
    fill_tile<T, Bits>(args, panel, start, depth, tile);
    add_tile_rows<T>(rows, (const A*)args.x + first * args.x_stride + start, (int)args.x_stride, depth,
                     args.group, tile, args.scales + (panel * groups + start / args.group) * kPanelColumns,
                     total);
  }
}

// Work items: each panel with `chunk_rows` rows after the other.
template <class T, int Bits>
static void groupwise_panels(const GroupwiseArgs& args, int64_t begin, int64_t end) {
  const int64_t chunks = (args.rows + args.chunk_rows - 1) / args.chunk_rows;
  alignas(64) float total[kGroupwiseRows * kPanelColumns];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t panel = item / chunks, first = item % chunks * args.chunk_rows;
    const int rows = args.rows - first < args.chunk_rows ? (int)(args.rows - first) : args.chunk_rows;
#if defined(QUIRE_BF16)
    if (Bits == 4 && Product<T>::step == 2 && rows <= kDirectRows)
      multiply_direct(args, panel, first, rows, total);
    else
#endif
      multiply_tiles<T, Bits>(args, panel, first, rows, total);
    store_totals<T>(args, first, rows, panel, total);
  }
}

template <class T>
static void groupwise_multiply(const GroupwiseArgs& args, int64_t begin, int64_t end) {
  if (args.bits == 4)
    groupwise_panels<T, 4>(args, begin, end);
  else
    groupwise_panels<T, 8>(args, begin, end);
}

}  // namespace quire::QUIRE_ISA
