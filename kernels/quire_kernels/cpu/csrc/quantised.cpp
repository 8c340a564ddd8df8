// Bindings of the products with integer weights: int8_linear and groupwise_linear.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "checks.h"
#include "rows.h"
#include "slab.h"

namespace quire {
namespace {

// Bytes of weights for one thread at least: to start another takes as long as to read so many.
constexpr int64_t kGrainBytes = 1 << 15;
// Rows that are worth unpacking a panel for once more, so that another thread has work.
constexpr int64_t kLeastRows = 48;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The checks that both products share; returns the element type.
Dtype check_product(const at::Tensor& x, const at::Tensor& out, const std::optional<at::Tensor>& bias,
                    int64_t columns) {
  const Dtype dtype = dtype_of(x, "x_TI");
  check(x, "x_TI", x.scalar_type(), 2);
  check(out, "out_TO", out.scalar_type() == at::kFloat ? at::kFloat : x.scalar_type(), 2);
  check_size(out.size(0), x.size(0), "the number of rows of out_TO");
  check_size(out.size(1), columns, "the number of columns of out_TO");
  if (bias) {
    check_dense(*bias, "bias_O", at::kFloat);
    check_size(bias->numel(), columns, "the length of bias_O");
  }
  return dtype;
}

void check_shape(const at::Tensor& x, const char* name, at::IntArrayRef expected) {
  TORCH_CHECK_VALUE(x.sizes() == expected, name, " is ", x.sizes(), "; it must be ", expected);
}

template <class Args>
void set_operands(Args& args, const at::Tensor& x, const std::optional<at::Tensor>& bias, at::Tensor& out) {
  args.x = x.const_data_ptr(), args.x_stride = x.stride(0);
  args.out = out.mutable_data_ptr(), args.out_stride = out.stride(0);
  args.out_float = out.scalar_type() == at::kFloat;
  args.bias = bias ? bias->const_data_ptr<float>() : nullptr;
  args.rows = (int)x.size(0), args.columns = (int)out.size(1), args.length = (int)x.size(1);
}

// Panels for one thread at least.
int64_t panel_grain(int64_t panel_bytes) {
  return std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, panel_bytes));
}

void int8_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                 const std::optional<at::Tensor>& bias, at::Tensor& out) {
  const int64_t columns = scales.numel();
  const Dtype dtype = check_product(x, out, bias, columns);
  const int64_t rows = x.size(0), length = x.size(1);
  const int64_t panels = ceil_div(columns, kPanelColumns);
  check_dense(weight, "weight", at::kByte);
  check_dense(scales, "scales_O", at::kFloat);
  check_shape(weight, "weight", {panels, ceil_div(length, kInt8Step), kPanelColumns, kInt8Step});
  if (rows == 0) return;
  const Int8Kernels& work = kernels().quantised.int8;
  at::Tensor values = at::empty({rows, work.row_bytes((int)length)}, at::kByte);
  at::Tensor row_scales = at::empty({rows}, at::kFloat), row_offsets = at::empty({rows}, at::kInt);
  Int8Args args{};
  set_operands(args, x, bias, out);
  args.weight = weight.const_data_ptr<uint8_t>();
  args.scales = scales.const_data_ptr<float>();
  args.values = values.mutable_data_ptr();
  args.row_scales = row_scales.mutable_data_ptr<float>();
  args.row_offsets = row_offsets.mutable_data_ptr<int32_t>();
  at::parallel_for(0, rows, row_grain(length),
                   [&](int64_t begin, int64_t end) { work.quantise[dtype](args, begin, end); });
  at::parallel_for(0, panels * ceil_div(rows, kPanelRows), panel_grain(length * kPanelColumns),
                   [&](int64_t begin, int64_t end) { work.multiply[dtype](args, begin, end); });
}

// Rows of a work item: as many as are held at once, or fewer where that leaves threads without work.
int64_t chunk_rows(int64_t rows, int64_t panels) {
  const int64_t items = 4 * at::get_num_threads(), chunks = std::max<int64_t>(1, items / panels);
  const int64_t most = ceil_div(rows, std::max(chunks, ceil_div(rows, kGroupwiseRows)));
  return std::max<int64_t>(most, std::min<int64_t>(rows, kLeastRows));
}

void groupwise_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                      const std::optional<at::Tensor>& zeros, const std::optional<at::Tensor>& bias,
                      int64_t bits, int64_t group, at::Tensor& out) {
  const Dtype dtype = check_product(x, out, bias, out.size(-1));
  const int64_t rows = x.size(0), length = x.size(1), padded = ceil_div(length, kGroupStep) * kGroupStep;
  const int64_t panels = ceil_div(out.size(1), kPanelColumns), groups = ceil_div(length, group);
  TORCH_CHECK_VALUE(bits == 4 || bits == 8, "bits is ", bits, "; allowed: 4, 8");
  TORCH_CHECK_VALUE(group > 0 && group <= kMaxGroup && group % kGroupStep == 0, "group is ", group,
                    "; it must be a multiple of ", kGroupStep, " up to ", kMaxGroup);
  check_dense(weight, "weight", at::kInt);
  check_shape(weight, "weight", {panels, padded * bits / 32, kPanelColumns});
  check_dense(scales, "scales", at::kFloat);
  check_shape(scales, "scales", {panels, groups, kPanelColumns});
  if (zeros) {
    check_dense(*zeros, "zeros", at::kByte);
    check_shape(*zeros, "zeros", {panels, groups, kPanelColumns});
  }
  if (rows == 0) return;
  const ProductRows product_rows(x, dtype, padded);
  GroupwiseArgs args{};
  set_operands(args, x, bias, out);
  args.x = product_rows.data, args.x_stride = product_rows.stride;
  args.weight = (const uint32_t*)weight.const_data_ptr<int32_t>();
  args.scales = scales.const_data_ptr<float>();
  args.zeros = zeros ? zeros->const_data_ptr<uint8_t>() : nullptr;
  args.group = (int)group, args.bits = (int)bits, args.padded = (int)padded;
  args.chunk_rows = (int)chunk_rows(rows, panels);
  const auto work = kernels().quantised.groupwise_multiply[dtype];
  const int64_t items = panels * ceil_div(rows, args.chunk_rows);
  at::parallel_for(0, items, panel_grain(length * kPanelColumns * bits / 8),
                   [&](int64_t begin, int64_t end) { work(args, begin, end); });
}

// A copy of a weight in memory made for being streamed.
at::Tensor hold_weight(const at::Tensor& weight) {
  at::Tensor held = Slab::zeros(weight.sizes(), weight.scalar_type());
  held.copy_(weight);
  return held;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(quire_cpu, m) {
  m.def("hold_weight(Tensor weight) -> Tensor");
  m.def("int8_linear(Tensor x, Tensor weight, Tensor scales, Tensor? bias, Tensor(a!) out) -> ()");
  m.def(
      "groupwise_linear(Tensor x, Tensor weight, Tensor scales, Tensor? zeros, Tensor? bias, int bits, "
      "int group, Tensor(a!) out) -> ()");
}

TORCH_LIBRARY_IMPL(quire_cpu, CPU, m) {
  m.impl("hold_weight", hold_weight);
  m.impl("int8_linear", int8_linear);
  m.impl("groupwise_linear", groupwise_linear);
}

}  // namespace quire
