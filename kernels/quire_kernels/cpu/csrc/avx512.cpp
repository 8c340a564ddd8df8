// x86-64 with AVX-512 and its dot products of bytes, but none of bfloat16: Cascade Lake and Ice Lake, and
// newer processors of which a virtual machine shows only so much.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define QUIRE_ISA avx512
#define QUIRE_AVX512
#include "table.h"
#endif
