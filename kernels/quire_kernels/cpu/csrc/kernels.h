// What the torch bindings and the kernels of each instruction set share: plain structs and a table of
// functions. No torch here, and nothing from the standard library that an instruction set's translation
// unit could instantiate with instructions the machine may lack.
//
// Legend: T tokens, H query heads, K key-value heads, G = H / K, D head dimension, B tokens per block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quantised.h"

namespace quire {

struct bf16 {
  uint16_t bits;
};

enum Dtype : int { kFloat32 = 0, kBFloat16 = 1, kDtypes = 2 };

// What an element of the cache is: a number of the type of q, or a byte that stands for one (codes.h).
enum CacheCode : int { kPlain, kInt8, kE4M3 };

// Keys are attended in tiles of about this many tokens, and tiles add up to chunks. Both are cut at fixed
// positions of a sequence, whatever is computed around it, so that a row's output does not depend on the
// batch, on the chunk of a prefill it came in, or on the number of threads.
constexpr int kTileTokens = 128;
constexpr int kChunkTokens = 1024;
// Query rows (tokens times G) of one head that a work item attends together, and of all of its heads.
constexpr int kItemRows = 48;
// Items for each thread, if there can be so many without cutting chunks: they even out at the end.
constexpr int kItemsPerThread = 8;

inline int tile_tokens(int block_size) {
  return block_size >= kTileTokens ? block_size : kTileTokens / block_size * block_size;
}

inline int chunk_tokens(int block_size) {
  int tile = tile_tokens(block_size);
  return tile >= kChunkTokens ? tile : kChunkTokens / tile * tile;
}

// One row of the plan: some query rows of a sequence, all heads of some key-value heads, some chunks of keys.
struct AttentionItem {
  int32_t sequence;
  int32_t kv_head;   // the first
  int32_t kv_heads;  // how many, neighbours in the cache
  int32_t row_begin;  // in T
  int32_t row_end;
  int32_t chunk_begin;
  int32_t chunk_end;
  int32_t partial;  // index of its partial results, one a head, where the chunks of the rows are split, else -1
  int32_t splits;   // in the first item of a split: how many items' partial results follow one another, else 0
};
constexpr int kItemInts = sizeof(AttentionItem) / sizeof(int32_t);

struct AttentionArgs {
  const void* q;  // [T, H, D]
  int64_t q_stride_t, q_stride_h;
  void* out;  // [T, H, D]
  int64_t out_stride_t, out_stride_h;
  const void* k_cache;  // [N, K, D / 2, B, 2] in bfloat16, [N, K, D, B] in float32
  const void* v_cache;  // [N, K, B / 2, D, 2] in bfloat16, [N, K, B, D] in float32
  CacheCode code;
  const float *k_scales, *v_scales;  // [N, K, B], null for a plain cache
  const int32_t* tables;
  int64_t table_stride;
  const int32_t* query_starts;
  const int32_t* seq_lens;
  const float* alibi_slopes;  // [H] or null
  const float* sinks;         // [H] or null
  float* lse;                 // [T, H] or null
  int heads, kv_heads, head_dim, block_size;
  int window;  // INT32_MAX for none
  float scale;
  float softcap;  // 0 for none
  float* partials;
  int max_rows;            // the most rows of any item and head
  int max_kv_heads;        // the most key-value heads of any item
};

struct StoreArgs {
  const void *k, *v;  // [T, K, D]
  int64_t k_stride_t, k_stride_h, v_stride_t, v_stride_h;
  void *k_cache, *v_cache;
  CacheCode code;
  float *k_scales, *v_scales;  // [N, K, B], null for a plain cache
  const int64_t* slots;
  int kv_heads, head_dim, block_size;
};

struct NormArgs {
  const void* x;  // [T, H, E]; H is 1 for a plain [T, E]
  void* residual;  // the same or null
  void* out;
  const void* weight;
  int64_t x_stride_t, x_stride_h, residual_stride_t, residual_stride_h, out_stride_t, out_stride_h;
  int heads, size;
  float eps;
  bool unit_offset;
};

struct RotaryArgs {
  void* x[2];  // q and k, [T, heads[i], D]
  int64_t stride_t[2], stride_h[2];
  int heads[2];
  const int64_t* positions;
  const float* cos_sin;  // [P, dims]
  int dims;
  bool interleaved;
};

struct ActArgs {
  const void* gate_up;  // [T, 2 * size]
  void* out;            // [T, size]
  int64_t gate_up_stride, out_stride;
  int64_t size;
  bool gelu;
};

// Outputs that a packed weight keeps together, and the least that one thread computes of them.
constexpr int kPanel = 64, kLinearUnit = 32;

struct LinearArgs {
  const void* x;  // [T, I] in the element type of the product, a whole number of steps readable in each row
  int64_t x_stride;
  const void* weight;  // [panels, steps, kPanel, step]
  const void* bias;    // [O] or null
  void* out;           // [T, O], float32 or as the weight
  int64_t out_stride;
  int rows, inputs, outputs;
  bool out_float;
};

struct RowsArgs {
  const void* x;  // [T, I]
  int64_t x_stride;
  void* out;  // [T, out_stride] in the element type of the product: x, and zeros
  int64_t out_stride;
  int inputs;
};

// The kernels of one instruction set, by element type. Ranges are of rows, so that callers can share them
// out over threads.
struct KernelTable {
  size_t (*attention_scratch_bytes)(const AttentionArgs&);
  void (*attend[kDtypes])(const AttentionArgs&, const AttentionItem&, void* scratch);
  void (*merge[kDtypes])(const AttentionArgs&, const AttentionItem& first);
  void (*store_kv[kDtypes])(const StoreArgs&, int64_t begin, int64_t end);
  void (*rms_norm[kDtypes])(const NormArgs&, int64_t begin, int64_t end);
  void (*rotary[kDtypes])(const RotaryArgs&, int64_t begin, int64_t end);
  void (*act_mul[kDtypes])(const ActArgs&, int64_t begin, int64_t end);
  QuantisedKernels quantised;
  void (*linear[kDtypes])(const LinearArgs&, int64_t begin, int64_t end);
  void (*product_rows[kDtypes])(const RowsArgs&, int64_t begin, int64_t end);
  int product_bytes[kDtypes];  // size of an element of x as a product reads it
};

namespace avx512_bf16 {
extern const KernelTable kernels;
}
namespace avx512 {
extern const KernelTable kernels;
}
namespace avx2 {
extern const KernelTable kernels;
}
namespace baseline {
extern const KernelTable kernels;
}

}  // namespace quire
