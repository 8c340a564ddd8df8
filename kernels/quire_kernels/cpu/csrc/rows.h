// Rows of x as the products read them: in the element type of the product, up to a whole number of its steps.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "checks.h"

namespace quire {

// x itself where that fits, else a copy of it, which lives as long as this.
struct ProductRows {
  const void* data;
  int64_t stride;

  ProductRows(const at::Tensor& x, Dtype dtype, int64_t padded)
      : data(x.const_data_ptr()), stride(x.stride(0)) {
    const KernelTable& table = kernels();
    const int64_t rows = x.size(0), length = x.size(1), bytes = table.product_bytes[dtype];
    if (bytes == (int64_t)x.element_size() && length == padded) return;
    copy_ = at::empty({rows * padded * bytes}, at::kByte);
    const RowsArgs args{data, stride, copy_.mutable_data_ptr(), padded, (int)length};
    at::parallel_for(0, rows, row_grain(length),
                     [&](int64_t begin, int64_t end) { table.product_rows[dtype](args, begin, end); });
    data = copy_.const_data_ptr(), stride = padded;
  }

 private:
  at::Tensor copy_;
};

}  // namespace quire
