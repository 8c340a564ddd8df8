"""Quest as on a GPU, by Triton's interpreter: what it computes is what it computes on a CPU."""

import pytest
import torch

from quire.interfaces import AttentionBackend
from quire.interfaces.attention import AttentionLayer
from quire.interfaces.kv_cache import KVGeometry
from quire.runtime.batch import Batch
from quire.testing.attention_problem import AttentionProblem, Geometry
from quire_plugins.attention.quest import QuestAttention, QuestConfig

BLOCK, HEADS, KV_HEADS, DIM = 16, 4, 2, 16
BLOCKS = 24


def make(device: str, **options) -> AttentionBackend:
    return QuestAttention(config=QuestConfig(**options), device=device)


@pytest.mark.parametrize("chunk", [1, 20])
def test_what_reads_everything_is_exact(chunk):
    geometry = Geometry(block_size=BLOCK, windows=(None, 20), sinks=True, alibi=True, head_dim=16)
    problem = AttentionProblem(geometry, [20, 3], dtype=torch.float32, device="cpu", seed=0)
    problem.check(make("cuda"), chunk=chunk, tolerance=2e-5)


class Cached:
    """Sequences in one cache, whose blocks are taken in random order."""

    def __init__(self, quest: AttentionBackend, lengths: list[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.quest, self.generator = quest, generator
        self.tables_SM = torch.randperm(BLOCKS, generator=generator).to(torch.int32).view(len(lengths), -1)
        geometry = KVGeometry(
            num_blocks=BLOCKS, kv_heads=KV_HEADS, block_size=BLOCK, head_dim=DIM, dtype=torch.float32
        )
        self.cache = quest.kv_cache_spec(geometry).allocate("cpu")
        for tensor in self.cache.tensors():
            tensor.fill_(float("nan"))
        self.lengths = [0] * len(lengths)

    def step(self, layer: AttentionLayer, counts: list[int]) -> torch.Tensor:
        """So many more tokens of each sequence; the output [T, H, D]."""
        starts = torch.tensor([0, *counts]).cumsum(0).to(torch.int32)
        before, self.lengths = self.lengths, [n + m for n, m in zip(self.lengths, counts, strict=True)]
        positions_T = torch.cat([torch.arange(n, m) for n, m in zip(before, self.lengths, strict=True)])
        sequence_T = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        blocks_T = self.tables_SM[sequence_T, positions_T // BLOCK].long()
        lengths = torch.tensor(self.lengths, dtype=torch.int32)
        tokens = len(positions_T)
        batch = Batch(
            token_ids_T=torch.zeros(tokens, dtype=torch.int64),
            positions_T=positions_T,
            query_starts_S1=starts,
            seq_lens_S=lengths,
            tables_GSM=(self.tables_SM,),
            slots_GT=(blocks_T * BLOCK + positions_T % BLOCK,),
            logit_rows_R=torch.arange(tokens),
            host_query_starts_S1=starts,
            host_seq_lens_S=lengths,
            block_size=BLOCK,
        )
        heads = (HEADS, KV_HEADS, KV_HEADS)
        q, k, v = (torch.randn(tokens, n, DIM, generator=self.generator) for n in heads)
        out = torch.full((tokens, HEADS, DIM), float("nan"))
        self.quest.forward(layer, q, k, v, self.cache, batch, self.quest.prepare(batch, (layer,)), out)
        return out


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("alibi", [False, True])
def test_decoding_tokens_read_the_same_pages(softcap, alibi):
    """Steps of prompts alone, of decoding alone, and of both in turns."""
    layer = AttentionLayer(
        index=5,
        group=0,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=DIM,
        scale=DIM**-0.5,
        softcap=softcap,
        alibi_slopes_H=0.1 * 0.5 ** torch.arange(HEADS) if alibi else None,
        sinks_H=torch.linspace(-1, 1, HEADS),
    )
    steps = [[90, 30, 3, 70], [1, 1, 1, 1], [1, 20, 5, 1], [1, 1, 1, 1], [2, 1, 1, 1], [1, 4, 1, 1]]
    outs = []
    for device in ("cuda", "cpu"):
        cached = Cached(make(device, pages=2), [0] * 4, seed=3)
        outs.append([cached.step(layer, counts) for counts in steps])
    for found, expected in zip(*outs, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_few_pages_are_not_all():
    """So that the test above is one of a choice."""
    layer = AttentionLayer(index=5, group=0, heads=HEADS, kv_heads=KV_HEADS, head_dim=DIM, scale=DIM**-0.5)
    outs = []
    for pages in (2, 6):
        cached = Cached(make("cuda", pages=pages), [0], seed=3)
        outs.append([cached.step(layer, [count]) for count in (90, 1)])
    torch.testing.assert_close(outs[0][0], outs[1][0])
    assert (outs[0][1] - outs[1][1]).abs().max() > 0.01
