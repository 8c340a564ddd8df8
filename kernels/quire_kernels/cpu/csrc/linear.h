// y = x W^T + b, for weights packed once: few rows read them at the speed of memory, many multiply at that of
// the arithmetic units.
//
// A packed weight is [panels, steps, kPanel, step]: a panel holds kPanel outputs, and lies in the order in
// which it is read. Every output is one sum over the inputs in their order, whatever the number of rows, the
// width of the instruction set's vectors apart: a row's result is the same bits alone and in any batch.
#pragma once

#include "gemm.h"
#include "norm.h"

namespace quire::QUIRE_ISA {

constexpr int kLinearRows = 48;  // whose sums are held at once
constexpr ptrdiff_t kFetchAhead = 4096;

template <class T>
static void store_outputs(const LinearArgs& args, int row, int rows, int column, int columns,
                          const float* sums) {
  const T* bias = (const T*)args.bias;
  for (int r = 0; r < rows; ++r) {
    const int64_t place = (row + r) * args.out_stride + column;
    each_vector(columns, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      vf y = load(sums + r * kPanel + i);
      if (bias) y += load_lanes(bias + column + i, lanes);
      if (args.out_float)
        store_lanes((float*)args.out + place + i, y, lanes);
      else
        store_lanes((T*)args.out + place + i, y, lanes);
    });
  }
}

// Units are of kLinearUnit outputs.
template <class T>
static void linear(const LinearArgs& args, int64_t begin, int64_t end) {
  typedef Product<T> P;
  typedef typename P::A A;
  const int steps = (args.inputs + P::step - 1) / P::step;
  float sums[kLinearRows * kPanel];
  for (int64_t column = begin * kLinearUnit; column < end * kLinearUnit;) {
    const int inside = column % kPanel;
    int64_t width = kPanel - inside;
    if (width > end * kLinearUnit - column) width = end * kLinearUnit - column;
    const T* weight =
        (const T*)args.weight + ((column - inside) * steps + inside) * P::step;
    const int present = width < args.outputs - column ? width : args.outputs - column;
    for (int row = 0; row < args.rows; row += kLinearRows) {
      const int rows = args.rows - row < kLinearRows ? args.rows - row : kLinearRows;
      gemm<T>(rows, width, steps, (const A*)args.x + row * args.x_stride, args.x_stride, weight,
              kPanel * P::step, sums, kPanel, nullptr, row == 0 ? kFetchAhead : 0);
      store_outputs<T>(args, row, rows, column, present, sums);
    }
    column += width;
  }
}

// Rows of x as products read them.
template <class T>
static void product_rows(const RowsArgs& args, int64_t begin, int64_t end) {
  typedef typename Product<T>::A A;
  for (int64_t t = begin; t < end; ++t) {
    A* out = (A*)args.out + t * args.out_stride;
    const T* row = (const T*)args.x + t * args.x_stride;
    each_vector(args.inputs, [&](int64_t i, int lanes) __attribute__((always_inline)) {
      store_lanes(out + i, load_lanes(row + i, lanes), lanes);
    });
    memset((void*)(out + args.inputs), 0, sizeof(A) * (args.out_stride - args.inputs));
  }
}

}  // namespace quire::QUIRE_ISA
