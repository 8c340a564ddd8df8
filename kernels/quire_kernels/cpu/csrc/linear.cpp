// The ops of linear layers: pack_linear, linear, and packed_rows for a table that is embedding and head.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "checks.h"
#include "rows.h"
#include "slab.h"

namespace quire {
namespace {

int64_t step_of(at::ScalarType type) { return type == at::kBFloat16 ? 2 : 1; }

// Inputs and outputs of a packed weight [panels, steps, kPanel, step], the padding included.
struct PackedShape {
  int64_t inputs, outputs;

  PackedShape(const at::Tensor& packed, at::ScalarType type) {
    check_dense(packed, "packed", type);
    TORCH_CHECK_VALUE(packed.dim() == 4 && packed.size(2) == kPanel && packed.size(3) == step_of(type),
                      "packed is ", packed.sizes(), "; it must be what pack_linear gives");
    inputs = packed.size(1) * packed.size(3), outputs = packed.size(0) * kPanel;
  }
};

// A step of a panel is 4 bytes an output, in both element types.
void pack_panel(const at::Tensor& weight, const at::Tensor& packed, int64_t panel) {
  const int64_t steps = packed.size(1), row_bytes = weight.size(1) * weight.element_size();
  const int64_t columns = std::min<int64_t>(kPanel, weight.size(0) - panel * kPanel);
  const char* rows = (const char*)weight.const_data_ptr() + panel * kPanel * row_bytes;
  auto* out = (uint32_t*)packed.mutable_data_ptr() + panel * steps * kPanel;
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t s = 0; s < steps; ++s)
      memcpy(out + s * kPanel + c, rows + c * row_bytes + s * 4, std::min<int64_t>(4, row_bytes - s * 4));
}

at::Tensor pack_linear(const at::Tensor& weight) {
  dtype_of(weight, "weight_OI");
  TORCH_CHECK_VALUE(weight.dim() == 2, "weight_OI has ", weight.dim(), " dimensions; it must have 2");
  check_dense(weight, "weight_OI", weight.scalar_type());
  const int64_t step = step_of(weight.scalar_type());
  const int64_t panels = (weight.size(0) + kPanel - 1) / kPanel, steps = (weight.size(1) + step - 1) / step;
  at::Tensor packed = Slab::zeros({panels, steps, kPanel, step}, weight.scalar_type());
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) pack_panel(weight, packed, panel);
  });
  return packed;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& bias,
                  int64_t outputs, bool out_float) {
  const Dtype dtype = dtype_of(x, "x_TI");
  const at::ScalarType type = x.scalar_type();
  check(x, "x_TI", type, 2);
  const PackedShape shape(packed, type);
  const int64_t rows = x.size(0), inputs = x.size(1);
  TORCH_CHECK_VALUE(inputs <= shape.inputs && inputs > shape.inputs - step_of(type), "x_TI has ", inputs,
                    " columns; the weight has ", shape.inputs);
  TORCH_CHECK_VALUE(outputs <= shape.outputs && outputs > shape.outputs - kPanel, "outputs is ", outputs,
                    "; the weight has ", shape.outputs);
  if (bias) {
    check_dense(*bias, "bias_O", type);
    check_size(bias->numel(), outputs, "the length of bias_O");
  }
  at::Tensor out = at::empty({rows, outputs}, out_float ? at::kFloat : type);
  if (rows == 0) return out;
  const ProductRows product_rows(x, dtype, shape.inputs);
  LinearArgs args{product_rows.data,
                  product_rows.stride,
                  packed.const_data_ptr(),
                  bias ? bias->const_data_ptr() : nullptr,
                  out.mutable_data_ptr(),
                  outputs,
                  (int)rows,
                  (int)inputs,
                  (int)outputs,
                  out_float};
  const int64_t units = (outputs + kLinearUnit - 1) / kLinearUnit;
  const int64_t grain = std::max<int64_t>(1, 65536 / (kLinearUnit * rows * inputs));
  const auto work = kernels().linear[dtype];
  at::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) { work(args, begin, end); });
  return out;
}

at::Tensor packed_rows(const at::Tensor& packed, const at::Tensor& rows, int64_t inputs) {
  const at::ScalarType type = packed.scalar_type();
  dtype_of(packed, "packed");
  const PackedShape shape(packed, type);
  TORCH_CHECK_VALUE(inputs == shape.inputs, "inputs is ", inputs, "; a table that is read by rows has ",
                    shape.inputs);
  check_dense(rows, "rows_T", at::kLong);
  check_indices(rows, "rows_T", shape.outputs, false);
  at::Tensor out = at::empty({rows.numel(), inputs}, type);
  const int64_t units = inputs / step_of(type);
  const auto* table = (const uint32_t*)packed.const_data_ptr();
  auto* places = (uint32_t*)out.mutable_data_ptr();
  const int64_t* ids = rows.const_data_ptr<int64_t>();
  at::parallel_for(0, rows.numel(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const uint32_t* column = table + ids[t] / kPanel * units * kPanel + ids[t] % kPanel;
      for (int64_t i = 0; i < units; ++i) places[t * units + i] = column[i * kPanel];
    }
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(quire_cpu, m) {
  m.def("pack_linear(Tensor weight) -> Tensor");
  m.def("linear(Tensor x, Tensor packed, Tensor? bias, int outputs, bool out_float) -> Tensor");
  m.def("packed_rows(Tensor packed, Tensor rows, int inputs) -> Tensor");
}

TORCH_LIBRARY_IMPL(quire_cpu, CPU, m) {
  m.impl("pack_linear", pack_linear);
  m.impl("linear", linear);
  m.impl("packed_rows", packed_rows);
}

}  // namespace quire
