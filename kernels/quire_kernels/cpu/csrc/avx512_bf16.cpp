// x86-64 with AVX-512 and its dot products of bfloat16 and of bytes: from Zen 4 and Sapphire Rapids on.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
#define QUIRE_ISA avx512_bf16
#define QUIRE_AVX512
#define QUIRE_BF16
#include "table.h"
#endif
