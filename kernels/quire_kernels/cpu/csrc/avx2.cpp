// x86-64 with AVX2 and FMA.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#define QUIRE_ISA avx2
#define QUIRE_AVX2
#include "table.h"
#endif
