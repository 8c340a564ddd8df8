// Attention of one work item over the paged cache: online softmax (Milakov and Gimelshein, 2018) over tiles
// of keys, as in FlashAttention (Dao et al., 2022), all G heads of a key-value head at once so that K and V
// are read once for them.
//
//   positions   0 ....... tile ....... tile | chunk ....... | chunk
//   an item               rows of some queries x some chunks, in some key-value heads
//
// An item of several heads goes through a block head by head, as they lie in memory: a processor reads long
// runs nearly twice as fast as short ones.
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

// The rows of an item, in each of its key-value heads: row r of head h is query token row_begin + r / G, head
// (kv_head + h) * G + r % G.
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
  int head(int h, int r) const { return first_head + h * group + r % group; }
};

QUIRE_INLINE int first_visible(const AttentionArgs& args, int position) {
  return larger(0, position - args.window + 1);
}

template <class T>
static void write_out(const AttentionArgs& args, const AttentionItem& item, const Rows& rows, int head,
                      Partial& total) {
  for (int r = 0; r < rows.count; ++r) {
    int64_t t = item.row_begin + r / rows.group, h = rows.head(head, r);
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

  // What each head of the item has of its own.
  struct Head {
    A* q;            // [rows, D]
    float* score;    // [rows, tile]
    A* weight;       // [rows, tile]: the exponents, as the second product takes them
    float* decay;    // [rows]: what the online softmax scales earlier results by
    float* v_scale;  // [tile], zero for tokens that must not be read; null for a plain cache

    Head(const AttentionArgs& args, int tile, int h, char* scratch) {
      const int most = args.max_rows;
      float* floats = (float*)scratch + h * floats_each(args, tile);
      score = floats;
      decay = score + most * tile;
      v_scale = args.code == kPlain ? nullptr : decay + most;
      weight = (A*)(decay + most + tile);
      q = weight + most * tile;
    }
    static int64_t floats_each(const AttentionArgs& args, int tile) {
      return (int64_t)args.max_rows * (2 * tile + args.head_dim + 1) + tile;
    }
  };

  const AttentionArgs& args;
  const AttentionItem& item;
  const Rows rows;
  const int tile;
  const int32_t* table;
  char* scratch;
  float* ones;  // [rows]
  T* edge;      // [D, step]: one step of V with the tokens that must not be read set to zero
  T* wide;      // a block of K or V out of 8 bits

  Attend(const AttentionArgs& args_, const AttentionItem& item_, char* scratch_)
      : args(args_),
        item(item_),
        rows(args_, item_),
        tile(tile_tokens(args_.block_size)),
        table(args_.tables + item_.sequence * args_.table_stride),
        scratch(scratch_) {
    ones = (float*)scratch + args.max_kv_heads * Head::floats_each(args, tile);
    edge = (T*)(ones + args.max_rows);
    wide = edge + args.head_dim * P::step;
    for (int r = 0; r < rows.count; ++r) ones[r] = 1;
    for (int h = 0; h < item.kv_heads; ++h) {
      A* q = head(h).q;
      for (int r = 0; r < rows.count; ++r) {
        int64_t t = item.row_begin + r / rows.group;
        const T* row = (const T*)args.q + t * args.q_stride_t + rows.head(h, r) * args.q_stride_h;
        for (int d = 0; d < args.head_dim; d += W) store(q + r * args.head_dim + d, load(row + d));
      }
    }
  }

  Head head(int h) const { return Head(args, tile, h, scratch); }

  // Counts (block, head) pairs up to that of block `index` and head h of the item.
  int64_t place(int index, int h) const {
    return (int64_t)table[index] * args.kv_heads + item.kv_head + h;
  }

  // (block, head) pairs from that one to the one that is read after it; 0 after the last before `end`.
  int64_t to_next(int index, int h, int end) const {
    if (h + 1 < item.kv_heads) return 1;
    return (index + 1) * args.block_size < end ? place(index + 1, 0) - place(index, h) : 0;
  }

  int64_t block_bytes() const {
    return args.block_size * args.head_dim * (args.code == kPlain ? sizeof(T) : 1);
  }

  // Rows of n elements of a block, `stride` apart, from element `at` on, as the products read them.
  const T* rows_of(const void* cache, int64_t place, int64_t at, int count, int n, int stride,
                   ptrdiff_t ahead) {
    const char* from = (const char*)cache + place * block_bytes();
    if (args.code == kPlain) return (const T*)from + at;
    widen(args.code, (const int8_t*)from + at, wide + at, count, n, stride, ahead);
    return wide + at;
  }

  // Chunk by chunk; `end` bounds the keys that may be fetched ahead. A result for each head.
  void chunk(int begin, int end, float* into) {
    const int b = args.block_size;
    for (int h = 0; h < item.kv_heads; ++h) partial(into, h).clear(rows.count, args.head_dim);
    for (int start = begin / tile * tile; start < end; start += tile) {
      const int from = larger(begin, start), to = smaller(end, start + tile);
      for (int index = from / b; index * b < to; ++index)
        for (int h = 0; h < item.kv_heads; ++h) scores(head(h), h, index, start, from, to, end);
      for (int h = 0; h < item.kv_heads; ++h) softmax(head(h), h, start, from, to, partial(into, h));
      for (int index = from / b; index * b < to; ++index)
        for (int h = 0; h < item.kv_heads; ++h)
          values(head(h), h, index, start, from, to, end, partial(into, h));
    }
  }

  Partial partial(float* memory, int h) const {
    return Partial(memory + h * Partial::floats(args), args);
  }

  void scores(const Head& state, int h, int index, int start, int from, int to, int end) {
    const int b = args.block_size;
    const int first = larger(from - index * b, 0) / W * W;
    const int last = (smaller(to - index * b, b) + W - 1) / W * W;
    const int steps = args.head_dim / P::step, n = (last - first) * P::step;
    const ptrdiff_t ahead = to_next(index, h, end) * block_bytes();
    const T* k = rows_of(args.k_cache, place(index, h), first * P::step, steps, n, b * P::step, ahead);
    float* columns = state.score + index * b - start + first;
    gemm<T>(rows.count, last - first, steps, state.q, args.head_dim, k, b * P::step, columns, tile, nullptr,
            state.v_scale ? 0 : ahead);
    if (!state.v_scale) return;
    apply_scales(state, h, index, first, last, columns, end);
    if (index == from / b)
      for (int c = (from - start) / W * W; c < from - start; ++c) state.v_scale[c] = 0;
    if ((index + 1) * b >= to)
      for (int c = to - start; c % W != 0; ++c) state.v_scale[c] = 0;
  }

  // The scales of the keys multiply their columns of scores, those of the values are noted.
  void apply_scales(const Head& state, int h, int index, int first, int last, float* columns, int end) {
    const int b = args.block_size;
    const float* k_scale = args.k_scales + place(index, h) * b;
    const float* noted = args.v_scales + place(index, h) * b;
    const ptrdiff_t ahead = to_next(index, h, end) * b;
    float* note = state.v_scale + (columns - state.score) - first;
    for (int c = first; c < last; c += W) {
      __builtin_prefetch(k_scale + c + ahead);
      __builtin_prefetch(noted + c + ahead);
      const vf scale = load(k_scale + c);
      for (int r = 0; r < rows.count; ++r) {
        float* s = columns + r * tile + c - first;
        store(s, load(s) * scale);
      }
      store(note + c, load(noted + c));
    }
  }

  void softmax(const Head& state, int h, int start, int from, int to, Partial into) {
    const int first = (from - start) / W * W, last = (to - start + W - 1) / W * W;
    for (int r = 0; r < rows.count; ++r) {
      float* s = state.score + r * tile;
      A* w = state.weight + r * tile;
      const int position = rows.position(r);
      const int seen_from = larger(from, first_visible(args, position)) - start;
      const int seen_to = smaller(to, position + 1) - start;
      if (seen_from >= seen_to) {
        state.decay[r] = 1;
        for (int c = first; c < last; c += W) store(w + c, vf{});
        continue;
      }
      float scale = args.scale;
      if (args.softcap != 0) {
        float inner = args.scale / args.softcap;
        scale = args.softcap;
        for (int c = first; c < last; c += W) store(s + c, tanh(load(s + c) * inner));
      }
      if (args.alibi_slopes) {
        const float slope = args.alibi_slopes[rows.head(h, r)];
        for (int c = first; c < last; c += W) {
          const vf ahead = lanes() + (float)(start + c - position);
          store(s + c, load(s + c) * scale + ahead * slope);
        }
        scale = 1;
      }
      for (int c = first; c < seen_from; ++c) s[c] = kMinusInfinity;
      for (int c = seen_to; c < last; ++c) s[c] = kMinusInfinity;

      vf most = set(kMinusInfinity);
      for (int c = first; c < last; c += W) most = vmax(most, load(s + c));
      float top = reduce_max(most) * scale;
      top = top > into.most[r] ? top : into.most[r];
      state.decay[r] = exp_of(into.most[r] - top);
      into.most[r] = top;
      vf sum = {};
      for (int c = first; c < last; c += W) {
        vf e = exp(load(s + c) * scale - top);
        sum += e;
        store(w + c, state.v_scale ? e * load(state.v_scale + c) : e);
      }
      into.sum[r] = into.sum[r] * state.decay[r] + reduce_add(sum);
    }
  }

  void values(const Head& state, int h, int index, int start, int from, int to, int end, Partial into) {
    const int b = args.block_size, d = args.head_dim, step = P::step;
    const float* scale = index == from / b ? state.decay : ones;
    const A* w = state.weight + index * b - start;
    int first = larger(from - index * b, 0), last = smaller(to - index * b, b);
    const ptrdiff_t ahead = to_next(index, h, end) * block_bytes();
    const int step_from = first / step, steps = (last + step - 1) / step - step_from;
    const T* v = rows_of(args.v_cache, place(index, h), step_from * step * d, steps, d * step, d * step,
                         ahead) -
                 step_from * step * d;
    if (step == 2 && first % 2 == 1) {
      scale = edge_step(v, w, first / 2, 1, scale, into);
      ++first;
    }
    gemm<T>(rows.count, d, last / step - first / step, w + first, tile, v + first * d, d * step, into.out, d,
            scale, state.v_scale ? 0 : ahead);
    if (step == 2 && last % 2 == 1) edge_step(v, w, last / 2, 0, ones, into);
  }

  // The two tokens of a step of which only the one at `keep` exists; the other may hold anything.
  const float* edge_step(const T* v, const A* w, int at, int keep, const float* scale, Partial into) {
    const int d = args.head_dim;
    memset((void*)edge, 0, sizeof(T) * d * P::step);
    for (int i = 0; i < d; ++i) edge[i * P::step + keep] = v[(at * d + i) * P::step + keep];
    gemm<T>(rows.count, d, 1, w + at * P::step, tile, edge, d * P::step, into.out, d, scale, 0);
    return ones;
  }
};

static size_t attention_scratch_bytes(const AttentionArgs& args) {
  const size_t tile = tile_tokens(args.block_size), dims = args.head_dim;
  const size_t each = Attend<float>::Head::floats_each(args, tile) + 2 * Partial::floats(args);
  size_t floats = args.max_kv_heads * each + args.max_rows + 2 * dims;
  if (args.code != kPlain) floats += args.block_size * dims;
  return (floats * sizeof(float) + 63) / 64 * 64;
}

template <class T>
static void attend(const AttentionArgs& args, const AttentionItem& item, void* scratch) {
  const int64_t partials = args.max_kv_heads * Partial::floats(args);
  float *total = (float*)scratch, *next = total + partials;
  Attend<T> work(args, item, (char*)(next + partials));
  const Rows& rows = work.rows;
  const int chunk = chunk_tokens(args.block_size);
  const int visible_from = first_visible(args, rows.first_position);
  const int visible_to = rows.position(rows.count - 1) + 1;

  if (item.partial >= 0) total = args.partials + item.partial * Partial::floats(args);
  for (int c = item.chunk_begin; c < item.chunk_end; ++c) {
    int begin = larger(visible_from, c * chunk), end = smaller(visible_to, (c + 1) * chunk);
    work.chunk(begin, end, c == item.chunk_begin ? total : next);
    if (c == item.chunk_begin) continue;
    for (int h = 0; h < item.kv_heads; ++h)
      work.partial(total, h).absorb(work.partial(next, h), rows.count, args.head_dim);
  }
  if (item.partial >= 0) return;
  for (int h = 0; h < item.kv_heads; ++h) {
    Partial sums = work.partial(total, h);
    write_out<T>(args, item, rows, h, sums);
  }
}

template <class T>
static void merge(const AttentionArgs& args, const AttentionItem& first) {
  Rows rows(args, first);
  float* memory = args.partials + first.partial * Partial::floats(args);
  for (int h = 0; h < first.kv_heads; ++h) {
    Partial total(memory + h * Partial::floats(args), args);
    for (int i = 1; i < first.splits; ++i)
      total.absorb(Partial(memory + (i * first.kv_heads + h) * Partial::floats(args), args), rows.count,
                   args.head_dim);
    write_out<T>(args, first, rows, h, total);
  }
}

}  // namespace quire::QUIRE_ISA
