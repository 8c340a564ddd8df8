// The ops plan_attention and paged_attention: arguments, the list of work, and threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <vector>

#include "checks.h"

namespace quire {
namespace {

int window_of(std::optional<int64_t> window) {
  TORCH_CHECK_VALUE(!window || *window >= 1, "window is ", *window, "; it must be at least 1");
  return window ? (int)std::min<int64_t>(*window, INT_MAX) : INT_MAX;
}

struct WeightedItem {
  AttentionItem item;
  int64_t cost;  // query rows times heads times visible keys
};

// Key-value heads that one item takes where its rows allow it: all, unless threads would lack items then.
int heads_together(const int32_t* lens, int64_t sequences, int kv_heads, int chunk) {
  int64_t chunks = 0;
  for (int s = 0; s < sequences; ++s) chunks += (lens[s] + chunk - 1) / chunk;
  int together = kv_heads;
  while (together > 1 && chunks * (kv_heads / together) < (int64_t)kItemsPerThread * at::get_num_threads())
    together = together / 2;
  return together;
}

// Items of every sequence, the most expensive first, so that threads which take the next one when they are
// free finish together. Rows that fit in one item but see several chunks are split at the chunks.
std::vector<WeightedItem> plan_items(const int32_t* starts, const int32_t* lens, int64_t sequences, int group,
                                     int kv_heads, int block_size, int window) {
  const int tokens = std::max(1, kItemRows / group), chunk = chunk_tokens(block_size);
  const int together = heads_together(lens, sequences, kv_heads, chunk);
  std::vector<WeightedItem> items;
  int partials = 0;
  for (int s = 0; s < sequences; ++s) {
    const int first_position = lens[s] - (starts[s + 1] - starts[s]);
    TORCH_CHECK_VALUE(starts[s] <= starts[s + 1] && first_position >= 0, "sequence ", s,
                      " has the query rows ", starts[s], " to ", starts[s + 1], " and ", lens[s],
                      " cached tokens");
    for (int row = starts[s]; row < starts[s + 1]; row += tokens) {
      const int row_end = std::min(row + tokens, starts[s + 1]);
      const int seen_from = std::max(0, first_position + row - starts[s] - window + 1);
      const int seen_to = first_position + row_end - starts[s];
      const int chunk_begin = seen_from / chunk, chunk_end = (seen_to + chunk - 1) / chunk;
      const int splits = starts[s + 1] - starts[s] <= tokens ? chunk_end - chunk_begin : 1;
      const int most = std::clamp(kItemRows / ((row_end - row) * group), 1, together);
      for (int k = 0, heads; k < kv_heads; k += heads) {
        heads = std::min(most, kv_heads - k);
        const int64_t rows = (int64_t)(row_end - row) * heads;
        if (splits == 1) {
          items.push_back(
              {{s, k, heads, row, row_end, chunk_begin, chunk_end, -1, 0}, rows * (seen_to - seen_from)});
          continue;
        }
        for (int c = chunk_begin; c < chunk_end; ++c) {
          int keys = std::min(seen_to, (c + 1) * chunk) - std::max(seen_from, c * chunk);
          int followers = c == chunk_begin ? splits : 0;
          items.push_back({{s, k, heads, row, row_end, c, c + 1, partials, followers}, rows * keys});
          partials += heads;
        }
      }
    }
  }
  std::stable_sort(items.begin(), items.end(),
                   [](const WeightedItem& a, const WeightedItem& b) { return a.cost > b.cost; });
  return items;
}

at::Tensor plan_attention(const at::Tensor& query_starts, const at::Tensor& seq_lens, int64_t heads,
                          int64_t kv_heads, int64_t block_size, std::optional<int64_t> window) {
  check_dense(query_starts, "query_starts_S1", at::kInt);
  check_dense(seq_lens, "seq_lens_S", at::kInt);
  check_size(query_starts.numel(), seq_lens.numel() + 1, "the length of query_starts_S1");
  TORCH_CHECK_VALUE(kv_heads > 0 && heads > 0 && heads % kv_heads == 0, "heads is ", heads,
                    "; it must be a multiple of kv_heads, ", kv_heads);
  TORCH_CHECK_VALUE(block_size > 0 && block_size % 16 == 0, "block_size is ", block_size,
                    "; the CPU kernels need a multiple of 16");
  auto items = plan_items(query_starts.const_data_ptr<int32_t>(), seq_lens.const_data_ptr<int32_t>(),
                          seq_lens.numel(), heads / kv_heads, kv_heads, block_size, window_of(window));
  at::Tensor plan = at::empty({(int64_t)items.size(), kItemInts}, at::kInt);
  auto* rows = reinterpret_cast<AttentionItem*>(plan.mutable_data_ptr<int32_t>());
  for (size_t i = 0; i < items.size(); ++i) rows[i] = items[i].item;
  return plan;
}

// Every block that the item will read must be one of the cache's.
void check_blocks(const AttentionArgs& args, const AttentionItem& item, int64_t columns, int64_t num_blocks) {
  const int* starts = args.query_starts + item.sequence;
  const int64_t first_position = args.seq_lens[item.sequence] - (starts[1] - item.row_begin);
  const int64_t chunk = chunk_tokens(args.block_size);
  const int64_t from = std::max(item.chunk_begin * chunk, first_position - args.window + 1);
  const int64_t to = std::min(item.chunk_end * chunk, first_position + item.row_end - item.row_begin);
  const int32_t* table = args.tables + item.sequence * args.table_stride;
  for (int64_t index = from / args.block_size; index * args.block_size < to; ++index)
    TORCH_CHECK_VALUE(index < columns && table[index] >= 0 && table[index] < num_blocks, "tables_SM[",
                      item.sequence, ", ", index, "] must name one of the cache's ", num_blocks, " blocks");
}

// Calls work(item, thread) for every item; a thread takes the next item when it has finished one.
template <class Work>
void share_out(const AttentionItem* items, int64_t count, const Work& work) {
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t thread, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(items[i], thread);
  });
}

void paged_attention(const at::Tensor& q, const at::Tensor& k_cache, const at::Tensor& v_cache,
                     const at::Tensor& tables, const at::Tensor& query_starts, const at::Tensor& seq_lens,
                     at::Tensor& out, double scale, std::optional<int64_t> window,
                     std::optional<double> softcap, const std::optional<at::Tensor>& alibi_slopes,
                     const std::optional<at::Tensor>& sinks, const std::optional<at::Tensor>& lse,
                     const std::optional<at::Tensor>& k_scales, const std::optional<at::Tensor>& v_scales,
                     const std::optional<at::Tensor>& given_plan) {
  const Dtype dtype = dtype_of(q, "q_THD");
  const at::ScalarType type = q.scalar_type();
  check(q, "q_THD", type, 3);
  check(out, "out_THD", type, 3);
  check(tables, "tables_SM", at::kInt, 2);
  check_dense(query_starts, "query_starts_S1", at::kInt);
  check_dense(seq_lens, "seq_lens_S", at::kInt);
  const CacheShape cache = check_cache(k_cache, v_cache, type, k_scales, v_scales);
  const int64_t heads = q.size(1), sequences = seq_lens.numel();
  check_size(q.size(2), cache.head_dim, "the head dimension of q_THD");
  TORCH_CHECK_VALUE(cache.head_dim % 16 == 0, "head_dim is ", cache.head_dim,
                    "; the CPU kernels need a multiple of 16");
  TORCH_CHECK_VALUE(out.sizes() == q.sizes(), "out_THD is ", out.sizes(), "; it must be ", q.sizes());
  check_size(tables.size(0), sequences, "the number of rows of tables_SM");
  TORCH_CHECK_VALUE(scale > 0, "scale is ", scale, "; it must be positive");
  TORCH_CHECK_VALUE(!softcap || *softcap > 0, "softcap is ", *softcap, "; it must be positive");
  if (alibi_slopes) {
    check_dense(*alibi_slopes, "alibi_slopes_H", at::kFloat);
    check_size(alibi_slopes->numel(), heads, "the length of alibi_slopes_H");
  }
  if (sinks) {
    check_dense(*sinks, "sinks_H", at::kFloat);
    check_size(sinks->numel(), heads, "the length of sinks_H");
  }
  if (lse) {
    check_dense(*lse, "lse_TH", at::kFloat);
    check_size(lse->numel(), q.size(0) * heads, "the number of elements of lse_TH");
  }
  const at::Tensor plan = given_plan ? *given_plan
                                     : plan_attention(query_starts, seq_lens, heads, cache.kv_heads,
                                                      cache.block_size, window);
  check_dense(plan, "plan", at::kInt);
  const auto* items = reinterpret_cast<const AttentionItem*>(plan.const_data_ptr<int32_t>());
  const int64_t count = plan.size(0), group = heads / cache.kv_heads;
  if (count == 0) return;

  int64_t most_tokens = 0, partials = 0, most_heads = 0;
  for (int64_t i = 0; i < count; ++i) {
    most_tokens = std::max<int64_t>(most_tokens, items[i].row_end - items[i].row_begin);
    most_heads = std::max<int64_t>(most_heads, items[i].kv_heads);
    if (items[i].partial >= 0) partials = std::max<int64_t>(partials, items[i].partial + items[i].kv_heads);
    TORCH_CHECK_VALUE(items[i].row_end <= q.size(0), "query_starts_S1 reaches row ", items[i].row_end,
                      ", but q_THD has ", q.size(0));
  }
  AttentionArgs args{};
  args.q = q.const_data_ptr();
  args.q_stride_t = q.stride(0), args.q_stride_h = q.stride(1);
  args.out = out.mutable_data_ptr();
  args.out_stride_t = out.stride(0), args.out_stride_h = out.stride(1);
  args.k_cache = k_cache.const_data_ptr();
  args.v_cache = v_cache.const_data_ptr();
  args.code = cache.code, args.k_scales = cache.k_scales, args.v_scales = cache.v_scales;
  args.tables = tables.const_data_ptr<int32_t>();
  args.table_stride = tables.stride(0);
  args.query_starts = query_starts.const_data_ptr<int32_t>();
  args.seq_lens = seq_lens.const_data_ptr<int32_t>();
  args.alibi_slopes = alibi_slopes ? alibi_slopes->const_data_ptr<float>() : nullptr;
  args.sinks = sinks ? sinks->const_data_ptr<float>() : nullptr;
  args.lse = lse ? lse->mutable_data_ptr<float>() : nullptr;
  args.heads = heads, args.kv_heads = cache.kv_heads;
  args.head_dim = cache.head_dim, args.block_size = cache.block_size;
  args.window = window_of(window);
  args.scale = scale;
  args.softcap = softcap.value_or(0);
  args.max_rows = (most_tokens * group + 15) / 16 * 16;  // keeps every array in the scratch aligned
  args.max_kv_heads = (int)most_heads;
  const at::Tensor partial_floats = at::empty({partials * args.max_rows * (args.head_dim + 2)}, at::kFloat);
  args.partials = partial_floats.mutable_data_ptr<float>();

  const KernelTable& table = kernels();
  const int64_t bytes = table.attention_scratch_bytes(args);
  const at::Tensor scratch = at::empty({at::get_num_threads() * bytes}, at::kByte);
  auto* memory = scratch.mutable_data_ptr<uint8_t>();
  share_out(items, count, [&](const AttentionItem& item, int64_t thread) {
    check_blocks(args, item, tables.size(1), k_cache.size(0));
    table.attend[dtype](args, item, memory + thread * bytes);
  });
  if (partials == 0) return;
  share_out(items, count, [&](const AttentionItem& item, int64_t) {
    if (item.splits > 0) table.merge[dtype](args, item);
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(quire_cpu, m) {
  m.def(
      "plan_attention(Tensor query_starts, Tensor seq_lens, int heads, int kv_heads, int block_size, "
      "int? window) -> Tensor");
  m.def(
      "paged_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor tables, Tensor query_starts, "
      "Tensor seq_lens, Tensor(a!) out, float scale, int? window, float? softcap, Tensor? alibi_slopes, "
      "Tensor? sinks, Tensor(b!)? lse, Tensor? k_scales, Tensor? v_scales, Tensor? plan) -> ()");
}

TORCH_LIBRARY_IMPL(quire_cpu, CPU, m) {
  m.impl("plan_attention", plan_attention);
  m.impl("paged_attention", paged_attention);
}

}  // namespace quire
