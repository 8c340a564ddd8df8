// Instantiates every kernel for one instruction set. Included once by each translation unit that names one.
#pragma once

#include "activation.h"
#include "attention.h"
#include "cache.h"
#include "groupwise.h"
#include "int8.h"
#include "linear.h"
#include "norm.h"
#include "rotary.h"

namespace quire::QUIRE_ISA {

const KernelTable kernels = {
    attention_scratch_bytes,
    {attend<float>, attend<bf16>},
    {merge<float>, merge<bf16>},
    {store_kv<float>, store_kv<bf16>},
    {rms_norm<float>, rms_norm<bf16>},
    {rotary<float>, rotary<bf16>},
    {act_mul<float>, act_mul<bf16>},
    {int8_kernels, {groupwise_multiply<float>, groupwise_multiply<bf16>}},
    {linear<float>, linear<bf16>},
    {product_rows<float>, product_rows<bf16>},
    {sizeof(Product<float>::A), sizeof(Product<bf16>::A)},
};

}  // namespace quire::QUIRE_ISA
