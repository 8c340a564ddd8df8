// out = x W^T with W as 4-bit or 8-bit integers, a scale (and perhaps a zero) for each group of a column's
// neighbours along L, and x as it is.
//
// Integers so small are exact in bfloat16, so a group's sum runs over the integers and is scaled once, in
// float32. A zero z other than the middle adds scale (middle - z) sum x, which needs the sums of x alone.
// Weights become floats a group of a panel at a time: a tile that stays in the first-level cache.
#pragma once

#include "gemm.h"
#include "norm.h"
#include "quantised.h"

namespace quire::QUIRE_ISA {

constexpr int kGroupwiseAhead = 4096;  // bytes of weights that are fetched before they are used

static int64_t groupwise_padded(int length) { return (length + kGroupStep - 1) / kGroupStep * kGroupStep; }

template <class T>
static int64_t groupwise_row_bytes(int length) {
  return groupwise_padded(length) * sizeof(typename Product<T>::A);
}

// Rows of x in the product's own type, and the sum of each of their groups.
template <class T>
static void groupwise_prepare(const GroupwiseArgs& args, int64_t begin, int64_t end) {
  typedef typename Product<T>::A A;
  const int groups = (args.length + args.group - 1) / args.group;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = (const T*)args.x + row * args.x_stride;
    A* values = (A*)((char*)args.values + row * groupwise_row_bytes<T>(args.length));
    for (int group = 0; group < groups; ++group) {
      const int first = group * args.group;
      const int size = args.length - first < args.group ? args.length - first : args.group;
      vf sum = {};
      each_vector(size, [&](int64_t i, int lanes) __attribute__((always_inline)) {
        vf value = load_lanes(x + first + i, lanes);
        sum += value;
        store_lanes(values + first + i, value, lanes);
      });
      args.group_sums[row * groups + group] = reduce_add(sum);
    }
    memset(values + args.length, 0, (groupwise_padded(args.length) - args.length) * sizeof(A));
  }
}

template <int Bits>
QUIRE_INLINE vf centred(vu lanes, int place) {
  vu integers = lanes >> groupwise_shift(Bits, place) & ((1 << Bits) - 1);
  return __builtin_convertvector((vi)integers, vf) - (float)(1 << (Bits - 1));
}

// `count` lanes of each column of a panel, as `gemm` reads its operand B.
template <int Bits>
static inline void unpack(const uint32_t* weight, int count, float* tile) {
  for (int64_t i = 0; i < (int64_t)count * kPanelColumns; i += W) {
    vu lanes = load_as<vu>(weight + i);
    __builtin_prefetch((const char*)(weight + i) + kGroupwiseAhead);
    float* place = tile + i / kPanelColumns * kPanelColumns * (32 / Bits) + i % kPanelColumns;
#pragma GCC unroll 8
    for (int l = 0; l < 32 / Bits; ++l) store(place + l * kPanelColumns, centred<Bits>(lanes, l));
  }
}

template <int Bits>
static inline void unpack(const uint32_t* weight, int count, bf16* tile) {
#if defined(QUIRE_AVX512)
  // Looks 16-bit words up by their low 5 bits, of which the fifth is the next weight's: so all appears twice.
  float values[32];
  for (int i = 0; i < 32; ++i) values[i] = (float)(i % 16 - 8);
  const __m512i table = (__m512i)_mm512_cvtne2ps_pbh((__m512)load(values + 16), (__m512)load(values));
#endif
  for (int64_t i = 0; i < (int64_t)count * kPanelColumns; i += W) {
    vu lanes = load_as<vu>(weight + i);
    __builtin_prefetch((const char*)(weight + i) + kGroupwiseAhead);
    bf16* place = tile + i / kPanelColumns * kPanelColumns * (32 / Bits) + i % kPanelColumns * 2;
#pragma GCC unroll 4
    for (int pair = 0; pair < 16 / Bits; ++pair) {
      vu both;
#if defined(QUIRE_AVX512)
      if constexpr (Bits == 4)
        both = (vu)_mm512_permutexvar_epi16((__m512i)(lanes >> (4 * pair)), table);
      else
#endif
        both = (vu)centred<Bits>(lanes, 2 * pair) >> 16 |
               ((vu)centred<Bits>(lanes, 2 * pair + 1) & 0xffff0000u);
      memcpy(place + pair * 2 * kPanelColumns, &both, sizeof(both));
    }
  }
}

// Work items: each panel with `kPanelRows` rows after the other.
template <class T, int Bits>
static void groupwise_panels(const GroupwiseArgs& args, int64_t begin, int64_t end) {
  typedef Product<T> P;
  constexpr int kLane = 32 / Bits;
  const int groups = (args.length + args.group - 1) / args.group;
  const int64_t padded = groupwise_padded(args.length), chunks = (args.rows + kPanelRows - 1) / kPanelRows;
  alignas(64) T tile[kMaxGroup * kPanelColumns];
  alignas(64) float part[kPanelRows * kPanelColumns], total[kPanelRows * kPanelColumns];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t panel = item / chunks, first = item % chunks * kPanelRows;
    const int rows = args.rows - first < kPanelRows ? (int)(args.rows - first) : kPanelRows;
    memset(total, 0, sizeof(float) * rows * kPanelColumns);
    for (int group = 0; group < groups; ++group) {
      const int64_t start = (int64_t)group * args.group;
      const int size = padded - start < args.group ? (int)(padded - start) : args.group;
      unpack<Bits>(args.weight + (panel * padded + start) / kLane * kPanelColumns, size / kLane, tile);
      const auto* a = (const typename P::A*)args.values + first * padded + start;
      gemm<T>(rows, kPanelColumns, size / P::step, a, (int)padded, tile, kPanelColumns * P::step, part,
              kPanelColumns, nullptr, 0);
      const int64_t place = (panel * groups + group) * kPanelColumns;
      for (int row = 0; row < rows; ++row) {
        const float sum = args.offsets ? args.group_sums[(first + row) * groups + group] : 0;
        for (int i = 0; i < kPanelColumns; i += W) {
          float* to = total + row * kPanelColumns + i;
          vf value = load(to) + load(part + row * kPanelColumns + i) * load(args.scales + place + i);
          if (args.offsets) value += load(args.offsets + place + i) * sum;
          store(to, value);
        }
      }
    }
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
}

template <class T>
static void groupwise_multiply(const GroupwiseArgs& args, int64_t begin, int64_t end) {
  if (args.bits == 4)
    groupwise_panels<T, 4>(args, begin, end);
  else
    groupwise_panels<T, 8>(args, begin, end);
}

constexpr GroupwiseKernels groupwise_kernels = {
    {groupwise_row_bytes<float>, groupwise_row_bytes<bf16>},
    {groupwise_prepare<float>, groupwise_prepare<bf16>},
    {groupwise_multiply<float>, groupwise_multiply<bf16>},
};

}  // namespace quire::QUIRE_ISA
