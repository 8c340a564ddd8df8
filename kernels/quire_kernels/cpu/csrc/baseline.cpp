// Any machine that gcc or clang compiles for.
#include "kernels.h"

#define QUIRE_ISA baseline
#include "table.h"
