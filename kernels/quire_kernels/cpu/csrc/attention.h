// Attention of one work item over the paged cache: online softmax (Milakov and Gimelshein, 2018) over tiles
// of keys, as in FlashAttention (Dao et al., 2022), all G heads of a key-value head at once so that K and V
// are read once for them.
//
//   positions   0 ....... tile ....... tile | chunk ....... | chunk
//   an item               rows of some queries x some chunks
//
// Of a cache in 8 bits one block at a time is widened to the type of q, in a scratch that stays in the nearest
// cache. The scale of a key multiplies its column of scores, that of a value its column of weights.
//
// A chunk's result (out, max, sum) is merged into the total from left to right, in the item itself or, where
// the chunks were split over items, by `merge`: the arithmetic is the same.
#pragma once

#include "codes.h"
#include "gemm.h"

namespace quire::QUIRE_ISA {

constexpr float kMinusInfinity = -__builtin_inff();

QUIRE_INLINE int smaller(int a, int b) { return a < b ? a : b; }
QUIRE_INLINE int larger(int a, int b) { return a > b ? a : b; }
QUIRE_INLINE float exp_of(float x) { return exp(set(x))[0]; }

// Unnormalised outputs [rows, D] with every row's score maximum and its sum of exponents.
struct Partial {
  float *out, *most, *sum;

  Partial(float* memory, const AttentionArgs& args)
      : out(memory), most(memory + args.max_rows * args.head_dim), sum(most + args.max_rows) {}
  static int64_t floats(const AttentionArgs& args) { return (int64_t)args.max_rows * (args.head_dim + 2); }

  void clear(int rows, int head_dim) {
    memset(out, 0, sizeof(float) * rows * head_dim);
    memset(sum, 0, sizeof(float) * rows);
    for (int r = 0; r < rows; ++r) most[r] = kMinusInfinity;
  }

  // Of two neighbouring chunks a row sees a key in at least one: an item's rows are closer together than a
  // chunk is long. One without any is cleared, and weighs nothing here.
  void absorb(const Partial& other, int rows, int head_dim) {
    for (int r = 0; r < rows; ++r) {
      float top = most[r] > other.most[r] ? most[r] : other.most[r];
      float ours = exp_of(most[r] - top), theirs = exp_of(other.most[r] - top);
      most[r] = top;
      sum[r] = sum[r] * ours + other.sum[r] * theirs;
      float* mine = out + r * head_dim;
      for (int d = 0; d < head_dim; d += W)
        store(mine + d, load(mine + d) * ours + load(other.out + r * head_dim + d) * theirs);
    }
  }
};

// The rows of an item: row r is query token row_begin + r / G, head kv_head * G + r % G.
struct Rows {
  int count, group, first_position, first_head;

  Rows(const AttentionArgs& args, const AttentionItem& item) {
    group = args.heads / args.kv_heads;
    count = (item.row_end - item.row_begin) * group;
    first_head = item.kv_head * group;
    int behind = args.query_starts[item.sequence + 1] - item.row_begin;
    first_position = args.seq_lens[item.sequence] - behind;
  }
  int position(int r) const { return first_position + r / group; }
};

QUIRE_INLINE int first_visible(const AttentionArgs& args, int position) {
  return larger(0, position - args.window + 1);
}

template <class T>
static void write_out(const AttentionArgs& args, const AttentionItem& item, const Rows& rows,
                      Partial& total) {
  for (int r = 0; r < rows.count; ++r) {
    int64_t t = item.row_begin + r / rows.group, h = rows.first_head + r % rows.group;
    float scale = 1;
    if (args.sinks) {
      float top = total.most[r] > args.sinks[h] ? total.most[r] : args.sinks[h];
      scale = exp_of(total.most[r] - top);
      total.sum[r] = total.sum[r] * scale + exp_of(args.sinks[h] - top);
      total.most[r] = top;
    }
    float weight = scale / total.sum[r];
    T* out = (T*)args.out + t * args.out_stride_t + h * args.out_stride_h;
    const float* sums = total.out + r * args.head_dim;
    for (int d = 0; d < args.head_dim; d += W) store(out + d, load(sums + d) * weight);
    if (args.lse) args.lse[t * args.heads + h] = total.most[r] + __builtin_logf(total.sum[r]);
  }
}

template <class T>
struct Attend {
  typedef Product<T> P;
  typedef typename P::A A;

  const AttentionArgs& args;
  const AttentionItem& item;
  const Rows rows;
  const int tile;
  const int32_t* table;
  A* q;          // [rows, D]
  float* score;  // [rows, tile]
  A* weight;     // [rows, tile]: the exponents, as the second product takes them
  float* decay;  // [rows]: what the online softmax scales earlier results by
  float* ones;   // [rows]
  T* edge;       // [D, step]: one step of V with the tokens that must not be read set to zero
  float* v_scale;  // [tile], zero for tokens that must not be read; null for a plain cache
  T* wide;         // a block of K or V out of 8 bits

  Attend(const AttentionArgs& args_, const AttentionItem& item_, char* scratch)
      : args(args_),
        item(item_),
        rows(args_, item_),
        tile(tile_tokens(args_.block_size)),
        table(args_.tables + item_.sequence * args_.table_stride) {
    int most = args.max_rows;
    score = (float*)scratch;
    decay = score + most * tile;
    ones = decay + most;
    weight = (A*)(ones + most);
    q = weight + most * tile;
    edge = (T*)(q + most * args.head_dim);
    float* rest = (float*)(edge + args.head_dim * P::step);
    v_scale = args.code == kPlain ? nullptr : rest;
    wide = (T*)(rest + tile);
    for (int r = 0; r < rows.count; ++r) {
      ones[r] = 1;
      int64_t t = item.row_begin + r / rows.group, h = rows.first_head + r % rows.group;
      const T* row = (const T*)args.q + t * args.q_stride_t + h * args.q_stride_h;
      for (int d = 0; d < args.head_dim; d += W) store(q + r * args.head_dim + d, load(row + d));
    }
  }

  // Counts (block, head) pairs up to that of block `index`.
  int64_t head(int index) const { return (int64_t)table[index] * args.kv_heads + item.kv_head; }

  const char* block(const void* cache, int index) const {
    int64_t element = args.code == kPlain ? sizeof(T) : 1;
    return (const char*)cache + head(index) * args.block_size * args.head_dim * element;
  }

  // Bytes from block `index` to the one after it, where the sequence has one before `end`.
  ptrdiff_t to_next(const void* cache, int index, int end) const {
    if ((index + 1) * args.block_size >= end) return 0;
    return block(cache, index + 1) - block(cache, index);
  }

  // Rows of n elements of block `index`, `stride` apart, from element `at` on, as the products read them.
  const T* rows_of(const void* cache, int index, int64_t at, int count, int n, int stride, ptrdiff_t ahead) {
    const char* from = block(cache, index);
    if (args.code == kPlain) return (const T*)from + at;
    widen(args.code, (const int8_t*)from + at, wide + at, count, n, stride, ahead);
    return wide + at;
  }

  // Chunk by chunk; `end` bounds the keys that may be fetched ahead.
  void chunk(int begin, int end, Partial& into) {
    into.clear(rows.count, args.head_dim);
    for (int start = begin / tile * tile; start < end; start += tile) {
      int from = larger(begin, start), to = smaller(end, start + tile);
      scores(start, from, to, end);
      softmax(start, from, to, into);
      values(start, from, to, end, into);
    }
  }

  void scores(int start, int from, int to, int end) {
    const int b = args.block_size;
    for (int index = from / b; index * b < to; ++index) {
      int first = larger(from - index * b, 0) / W * W;
      int last = (smaller(to - index * b, b) + W - 1) / W * W;
      const int steps = args.head_dim / P::step, n = (last - first) * P::step;
      const ptrdiff_t ahead = to_next(args.k_cache, index, end);
      const T* k = rows_of(args.k_cache, index, first * P::step, steps, n, b * P::step, ahead);
      float* columns = score + index * b - start + first;
      gemm<T>(rows.count, last - first, steps, q, args.head_dim, k, b * P::step, columns, tile, nullptr,
              v_scale ? 0 : ahead);
      if (v_scale) apply_scales(index, first, last, columns, end);
    }
    if (v_scale) {
      for (int c = (from - start) / W * W; c < from - start; ++c) v_scale[c] = 0;
      for (int c = to - start; c % W != 0; ++c) v_scale[c] = 0;
    }
  }

  // The scales of the keys multiply their columns of scores, those of the values are noted.
  void apply_scales(int index, int first, int last, float* columns, int end) {
    const int b = args.block_size;
    const float* k_scale = args.k_scales + head(index) * b;
    const float* noted = args.v_scales + head(index) * b;
    const ptrdiff_t ahead = (index + 1) * b < end ? (head(index + 1) - head(index)) * b : 0;
    float* place = v_scale + (columns - score) - first;
    for (int c = first; c < last; c += W) {
      __builtin_prefetch(k_scale + c + ahead);
      __builtin_prefetch(noted + c + ahead);
      const vf scale = load(k_scale + c);
      for (int r = 0; r < rows.count; ++r) {
        float* s = columns + r * tile + c - first;
        store(s, load(s) * scale);
      }
      store(place + c, load(noted + c));
    }
  }

  void softmax(int start, int from, int to, Partial& into) {
    const int first = (from - start) / W * W, last = (to - start + W - 1) / W * W;
    for (int r = 0; r < rows.count; ++r) {
      float* s = score + r * tile;
      A* w = weight + r * tile;
      const int position = rows.position(r);
      const int seen_from = larger(from, first_visible(args, position)) - start;
      const int seen_to = smaller(to, position + 1) - start;
      if (seen_from >= seen_to) {
        decay[r] = 1;
        for (int c = first; c < last; c += W) store(w + c, vf{});
        continue;
      }
      float scale = args.scale;
      if (args.softcap != 0) {
        float inner = args.scale / args.softcap;
        scale = args.softcap;
        for (int c = first; c < last; c += W) store(s + c, tanh(load(s + c) * inner));
      }
      for (int c = first; c < seen_from; ++c) s[c] = kMinusInfinity;
      for (int c = seen_to; c < last; ++c) s[c] = kMinusInfinity;

      vf most = set(kMinusInfinity);
      for (int c = first; c < last; c += W) most = vmax(most, load(s + c));
      float top = reduce_max(most) * scale;
      top = top > into.most[r] ? top : into.most[r];
      decay[r] = exp_of(into.most[r] - top);
      into.most[r] = top;
      vf sum = {};
      for (int c = first; c < last; c += W) {
        vf e = exp(load(s + c) * scale - top);
        sum += e;
        store(w + c, v_scale ? e * load(v_scale + c) : e);
      }
      into.sum[r] = into.sum[r] * decay[r] + reduce_add(sum);
    }
  }

  void values(int start, int from, int to, int end, Partial& into) {
    const int b = args.block_size, d = args.head_dim, step = P::step;
    const float* scale = decay;
    for (int index = from / b; index * b < to; ++index) {
      const A* w = weight + index * b - start;
      int first = larger(from - index * b, 0), last = smaller(to - index * b, b);
      const ptrdiff_t ahead = to_next(args.v_cache, index, end);
      const int step_from = first / step, steps = (last + step - 1) / step - step_from;
      const T* v = rows_of(args.v_cache, index, step_from * step * d, steps, d * step, d * step, ahead) -
                   step_from * step * d;
      if (step == 2 && first % 2 == 1) {
        scale = edge_step(v, w, first / 2, 1, scale, into);
        ++first;
      }
      gemm<T>(rows.count, d, last / step - first / step, w + first, tile, v + first * d, d * step, into.out,
              d, scale, v_scale ? 0 : ahead);
      scale = ones;
      if (step == 2 && last % 2 == 1) edge_step(v, w, last / 2, 0, ones, into);
    }
  }

  // The two tokens of a step of which only the one at `keep` exists; the other may hold anything.
  const float* edge_step(const T* v, const A* w, int at, int keep, const float* scale, Partial& into) {
    const int d = args.head_dim;
    memset((void*)edge, 0, sizeof(T) * d * P::step);
    for (int i = 0; i < d; ++i) edge[i * P::step + keep] = v[(at * d + i) * P::step + keep];
    gemm<T>(rows.count, d, 1, w + at * P::step, tile, edge, d * P::step, into.out, d, scale, 0);
    return ones;
  }
};

static size_t attention_scratch_bytes(const AttentionArgs& args) {
  size_t tile = tile_tokens(args.block_size), rows = args.max_rows, dims = args.head_dim;
  size_t floats = rows * (tile + 2) + rows * (tile + dims) + 2 * dims + 2 * Partial::floats(args);
  if (args.code != kPlain) floats += tile + args.block_size * dims;
  return (floats * sizeof(float) + 63) / 64 * 64;
}

template <class T>
static void attend(const AttentionArgs& args, const AttentionItem& item, void* scratch) {
  Partial total((float*)scratch, args);
  Partial next((float*)scratch + Partial::floats(args), args);
  Attend<T> work(args, item, (char*)scratch + 2 * Partial::floats(args) * sizeof(float));
  const Rows& rows = work.rows;
  const int chunk = chunk_tokens(args.block_size);
  const int visible_from = first_visible(args, rows.first_position);
  const int visible_to = rows.position(rows.count - 1) + 1;

  if (item.partial >= 0) total = Partial(args.partials + item.partial * args.partial_stride, args);
  for (int c = item.chunk_begin; c < item.chunk_end; ++c) {
    int begin = larger(visible_from, c * chunk), end = smaller(visible_to, (c + 1) * chunk);
    work.chunk(begin, end, c == item.chunk_begin ? total : next);
    if (c > item.chunk_begin) total.absorb(next, rows.count, args.head_dim);
  }
  if (item.partial < 0) write_out<T>(args, item, rows, total);
}

template <class T>
static void merge(const AttentionArgs& args, const AttentionItem& first) {
  Rows rows(args, first);
  Partial total(args.partials + first.partial * args.partial_stride, args);
  for (int i = 1; i < first.splits; ++i) {
    Partial next(args.partials + (first.partial + i) * args.partial_stride, args);
    total.absorb(next, rows.count, args.head_dim);
  }
  write_out<T>(args, first, rows, total);
}

}  // namespace quire::QUIRE_ISA
