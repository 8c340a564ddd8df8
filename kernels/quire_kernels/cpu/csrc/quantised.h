// Products with integer weights: what their bindings and the kernels of each instruction set share.
//
// Legend: M rows, N columns of the output (the weight's rows), L length of each sum.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

// Weights lie in panels of this many columns, and a panel along L, so that it streams from memory in order.
constexpr int kPanelColumns = 48;
// Bytes of L that one 32-bit lane holds in a panel of 8-bit weights.
constexpr int kInt8Step = 4;
// Rows that one work item multiplies with a panel: enough to keep it in the cache for a while, few enough
// to share a large product out evenly.
constexpr int kPanelRows = 64;

struct Int8Args {
  const void* x;  // [M, L]
  int64_t x_stride;
  void* out;  // [M, N]
  int64_t out_stride;
  const uint8_t* weight;  // [N / 48, L / 4, 48, 4]: the weight plus 128, so that it has no sign
  const float* scales;    // [N]
  const float* bias;      // [N] or null
  void* values;           // [M] rows of `int8_row_bytes`: x as integers
  float* row_scales;      // [M]
  int32_t* row_offsets;   // [M]: what takes the 128 back out of the sums
  int rows, columns, length;
  bool out_float;  // whether out is float32, whatever x is
};

struct GroupwiseArgs {
  const void* x;  // [M, padded] in the element type of the product
  int64_t x_stride;
  void* out;  // [M, N]
  int64_t out_stride;
  const uint32_t* weight;  // [N / 48, L / per lane, 48]: `groupwise_shift` says where in a lane
  const float* scales;     // [N / 48, L / group, 48]
  const uint8_t* zeros;    // the same, or null where the middle of the range is zero
  const float* bias;       // [N] or null
  int rows, columns, length, group, bits;
  bool out_float;  // whether out is float32, whatever x is
  int padded;      // length up to a multiple of kGroupStep
  int chunk_rows;  // rows of a work item, at most kGroupwiseRows
};
// The most weights of a column that share a scale in the kernel; larger groups come as several.
constexpr int kMaxGroup = 128;
constexpr int kGroupStep = 8;  // a group is a multiple of it
constexpr int kGroupwiseRows = 192;

// Which bits of its lane hold a weight: even places along L in the low half, odd ones in the high half, so
// that a shift leaves a pair of neighbours where a dot product of 16-bit pairs wants them.
inline int groupwise_shift(int bits, int place) { return bits * (place / 2) + 16 * (place % 2); }

// Of one instruction set, by element type of x and out. Ranges: rows; panels times chunks of rows.
struct Int8Kernels {
  int64_t (*row_bytes)(int length);
  void (*quantise[2])(const Int8Args&, int64_t begin, int64_t end);
  void (*multiply[2])(const Int8Args&, int64_t begin, int64_t end);
};

struct QuantisedKernels {
  Int8Kernels int8;
  void (*groupwise_multiply[2])(const GroupwiseArgs&, int64_t begin, int64_t end);
};

}  // namespace quire
