"""Does it pay to look at the cost, or at the queue, before a cached block is given up?

Wang et al., KVCache in the Wild (ATC 2025): hits 8 to 24% above LRU with eviction that knows the workload.
Cao and Irani, Cost-aware WWW proxy caching algorithms (USITS 1997): GreedyDual-Size saves more than LRU of
whatever is told to it as the cost. So `queue_aware` is judged by the prompt tokens found, and `cost_aware`
by what it saves, the time to compute prompts, of which tokens late in a prompt take more; of both, both are
shown.

Memory holds a part of Mooncake's prefixes, and there is more work than time, so that a queue is there to be
looked at. What a policy gains depends on whether prefixes live for as long as it takes until they are used
again, so claims are about the mean over three sizes of memory, each twice the one before.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.shelf.lab import (
    BLOCK_TOKENS,
    STATED,
    Outcome,
    Panel,
    Study,
    difference,
    kv_tokens,
    machine,
)

PAPER = (
    "KVCache in the Wild (ATC 2025): hits 8 to 24% above LRU; GreedyDual-Size (USITS 1997): more of the cost "
    "saved than by LRU"
)
DIFFERENCES = (
    "Claims are about the mean over 1M, 2M and 4M tokens of memory. Conversations of this trace go on after "
    "a pause, so what cost_aware gains depends on memory: with 1M even dear prefixes go too soon, and it is "
    "as good as lru; with 2M they last, and it gains most; with 4M it finds fewer tokens than lru, as cheap "
    "prefixes that would have lasted make room for dear ones, and spares hardly more time. Stretches of 1000 "
    "requests differ much, share less than the whole trace and are too short for uses to tell; outputs are "
    "cut at 32"
)
MEMORIES = {"1M": 1_000_000, "2M": 2_000_000, "4M": 4_000_000}
COMMON = (
    *("scheduler=fcfs", "engine.max_sequences=64", "engine.max_step_tokens=8192", "workload.output_cap=32"),
    machine(STATED),
)
_ACCELERATOR = Path(__file__).parents[1] / "accelerator.json"
_SECONDS = json.loads(_ACCELERATOR.read_text(encoding="utf-8"))["parameters"]
A_TOKEN, A_PAIR = _SECONDS["prefill_tokens"], _SECONDS["prefill_pairs"]
"""What the stated accelerator takes for a token of a prompt, and for a pair of a query and a key."""
POLICIES = {
    "lru": ("eviction=lru",),
    "cost_aware": ("eviction=cost_aware", f"eviction.depth_cost={BLOCK_TOKENS * A_PAIR / A_TOKEN:.4f}"),
    "queue_aware": ("eviction=queue_aware",),
}
AMPLE = kv_tokens(2**26)
NUMBERS = {"hit_rate": "prompt tokens found", "time_spared": "prefill time spared"}
JUDGED_BY = {"cost_aware": "time_spared", "queue_aware": "hit_rate"}


def arms(memory: str) -> dict[str, tuple[str, ...]]:
    """Every policy, with that memory."""
    return {each: (*COMMON, memory, *options) for each, options in POLICIES.items()}


def prefill_seconds(tokens: int) -> float:
    """To compute so many tokens from the start of a prompt on, less what each step costs."""
    return A_TOKEN * tokens + A_PAIR * tokens * (tokens + 1) / 2


def measure(outcome: Outcome) -> dict[str, float]:
    spared = sum(prefill_seconds(record.num_cached_tokens) for record in outcome.records)
    asked = sum(prefill_seconds(record.num_prompt_tokens) for record in outcome.records)
    return {
        "hit_rate": outcome.metrics["prefix_hit_rate"],
        "time_spared": spared / asked,
        "mean_ttft_s": outcome.steady["ttft_s"]["mean"],
        "evictions": outcome.kv.evictions,
    }


def mean(columns: Sequence[Sequence[float]]) -> list[float]:
    """Seed for seed."""
    return [sum(values) / len(values) for values in zip(*columns, strict=True)]


def main() -> int:
    study = Study(__file__, "Eviction by cost and by the queue against LRU", requests=1000)
    memories = {size: arms(kv_tokens(tokens)) for size, tokens in MEMORIES.items()}
    load = study.at_load(1.1, memories["1M"]["lru"], study.load("mooncake"))
    taken = {size: study.run(f"{size} tokens", each, load, measure) for size, each in memories.items()}
    all_kept = study.run("ample memory", arms(AMPLE), load, measure)
    for policy, number in JUDGED_BY.items():
        more = [difference(found[policy][number], found["lru"][number]) for found in taken.values()]
        study.claim(f"{NUMBERS[number]}, {policy} - lru", mean(more), at_least=0.002)
        same = difference(all_kept[policy][number], all_kept["lru"][number])
        what = f"{NUMBERS[number]} with ample memory, {policy} - lru"
        study.claim(what, same, at_least=0, at_most=0, control=True)
    for number, label in {**NUMBERS, "mean_ttft_s": "mean TTFT (s)"}.items():
        lines = {each: [found[each][number] for found in taken.values()] for each in POLICIES}
        millions = [tokens / 1e6 for tokens in MEMORIES.values()]
        study.show(Panel(label=label, x=millions, x_label="memory (million tokens)", lines=lines))
    return study.finish()


if __name__ == "__main__":
    sys.exit(main())
