"""Quest: exact where it reads everything, and otherwise attention to just the pages that it should choose."""

from types import SimpleNamespace

import pytest
import torch

from quire import LLM, SamplingParams
from quire.errors import MissingCapability, UserError
from quire.interfaces import AttentionBackend
from quire.interfaces.attention import AttentionLayer
from quire.interfaces.kv_cache import KVGeometry
from quire.runtime.batch import Batch
from quire.testing import AttentionSuite
from quire_plugins.attention.quest import QuestAttention, QuestConfig, page_bounds

BLOCK, HEADS, KV_HEADS, DIM = 16, 4, 2, 32


class TestQuestThatReadsAll(AttentionSuite):
    def make(self) -> AttentionBackend:
        return QuestAttention(config=QuestConfig(), device=self.device)


class TestQuestThatOnlyKeepsBounds(AttentionSuite):
    """Layers are dense here, so that bounds are kept and nothing is chosen by them."""

    def make(self) -> AttentionBackend:
        return QuestAttention(config=QuestConfig(pages=1, dense_layers=100), device=self.device)


class Sequence:
    """One sequence whose tokens are stored in pages in random order, the rest of the cache poisoned."""

    def __init__(self, length: int, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.length = length
        self.k, self.v = (torch.randn(length, KV_HEADS, DIM, generator=generator).to(dtype) for _ in range(2))
        self.q = torch.randn(1, HEADS, DIM, generator=generator).to(dtype)
        self.pages = -(-length // BLOCK)
        self.table = torch.randperm(self.pages + 3, generator=generator)[: self.pages].to(torch.int32)
        geometry = KVGeometry(
            num_blocks=self.pages + 3,
            kv_heads=KV_HEADS,
            block_size=BLOCK,
            head_dim=DIM,
            dtype=dtype,
        )
        spec = QuestAttention(config=QuestConfig(), device="cpu").kv_cache_spec(geometry)
        self.cache = spec.allocate("cpu")
        for tensor in self.cache.tensors():
            tensor.fill_(float("nan"))

    def attend(self, quest: QuestAttention, layer: AttentionLayer, *, chunk: int = 37) -> torch.Tensor:
        """Prefills all but the last token, in chunks, then decodes the last; its output [H, D]."""
        out = torch.empty(0)
        start = 0
        while start < self.length:
            count = 1 if start == self.length - 1 else min(chunk, self.length - 1 - start)
            out = self._step(quest, layer, start, count)
            start += count
        return out[-1]

    def _step(self, quest: QuestAttention, layer: AttentionLayer, start: int, count: int) -> torch.Tensor:
        at = torch.arange(start, start + count)
        starts, lengths = torch.tensor([0, count]).int(), torch.tensor([start + count]).int()
        batch = Batch(
            token_ids_T=torch.zeros(count, dtype=torch.int64),
            positions_T=at,
            query_starts_S1=starts,
            seq_lens_S=lengths,
            tables_GSM=(self.table[None],),
            slots_GT=(self.table[at // BLOCK].long() * BLOCK + at % BLOCK,),
            logit_rows_R=torch.tensor([count - 1]),
            host_query_starts_S1=starts,
            host_seq_lens_S=lengths,
            block_size=BLOCK,
        )
        q, out = (
            self.q.expand(count, -1, -1),
            torch.full((count, HEADS, DIM), float("nan"), dtype=self.q.dtype),
        )
        metadata = quest.prepare(batch, (layer,))
        quest.forward(layer, q, self.k[at], self.v[at], self.cache, batch, metadata, out)
        return out

    def scores(self) -> torch.Tensor:
        """q k of the last token in float64, [K, G, L]."""
        q = self.q[0].double().unflatten(0, (KV_HEADS, -1))
        return torch.einsum("kgd,lkd->kgl", q, self.k.double())

    def expected(self, layer: AttentionLayer, pages: int) -> torch.Tensor:
        """Attention in float64 to the pages that the paper's rule takes, found by going through all keys."""
        k, v = self.k.double(), self.v.double()
        out = torch.empty(HEADS, DIM, dtype=torch.float64)
        group = HEADS // KV_HEADS
        for head in range(KV_HEADS):
            bounds = []
            heads = slice(head * group, (head + 1) * group)
            for first, page in zip(range(0, self.length, BLOCK), k[:, head].split(BLOCK), strict=True):
                least, largest = page.amin(0), page.amax(0)
                q = self.q[0, heads].double()
                bound = torch.maximum(q * least, q * largest).sum(-1) * layer.scale
                if layer.alibi_slopes_H is not None:
                    ahead = torch.arange(first, first + len(page)) - (self.length - 1)
                    bound = capped(bound, layer) + (
                        layer.alibi_slopes_H[heads].double()[:, None] * ahead
                    ).amax(-1)
                bounds.append(bound.max().item())
            bounds[-1] = float("inf")
            best = sorted(range(self.pages), key=lambda page, bounds=bounds: -bounds[page])[:pages]
            seen = torch.isin(torch.arange(self.length) // BLOCK, torch.tensor(best))
            for h in range(head * group, (head + 1) * group):
                scores = capped(k[seen, head] @ self.q[0, h].double() * layer.scale, layer)
                if layer.alibi_slopes_H is not None:
                    ahead = torch.arange(self.length)[seen] - (self.length - 1)
                    scores = scores + layer.alibi_slopes_H[h].double() * ahead
                sink = () if layer.sinks_H is None else (layer.sinks_H[h : h + 1].double(),)
                weights = torch.cat([scores, *sink]).softmax(-1)[: len(scores)]
                out[h] = weights @ v[seen, head]
        return out


def capped(scores: torch.Tensor, layer: AttentionLayer) -> torch.Tensor:
    return scores if layer.softcap is None else layer.softcap * torch.tanh(scores / layer.softcap)


def layer_of(**options) -> AttentionLayer:
    fixed = {"index": 5, "group": 0, "heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM}
    return AttentionLayer(**fixed, scale=DIM**-0.5, **options)


@pytest.mark.parametrize("length", [150, 160, 161])
@pytest.mark.parametrize("pages", [1, 3, 9, 10])
def test_it_attends_to_the_pages_of_the_largest_bounds(length, pages):
    sequence, layer = Sequence(length), layer_of()
    out = sequence.attend(QuestAttention(config=QuestConfig(pages=pages), device="cpu"), layer)
    torch.testing.assert_close(out.double(), sequence.expected(layer, pages), rtol=1e-4, atol=1e-5)


def test_softcap_and_sinks():
    sinks = torch.randn(HEADS, generator=torch.Generator().manual_seed(1))
    sequence, layer = Sequence(200), layer_of(softcap=0.7, sinks_H=sinks)
    out = sequence.attend(QuestAttention(config=QuestConfig(pages=4), device="cpu"), layer)
    torch.testing.assert_close(out.double(), sequence.expected(layer, 4), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("slope", [0.05, -0.05])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_alibi_counts_in_scores_and_in_the_choice_of_pages(slope, softcap):
    slopes_H = slope * 0.5 ** torch.arange(HEADS)
    sequence, layer = Sequence(200), layer_of(alibi_slopes_H=slopes_H, softcap=softcap)
    out = sequence.attend(QuestAttention(config=QuestConfig(pages=3), device="cpu"), layer)
    torch.testing.assert_close(out.double(), sequence.expected(layer, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_no_key_of_a_page_scores_above_its_bound(dtype):
    sequence = Sequence(170, dtype=dtype)
    sequence.attend(QuestAttention(config=QuestConfig(), device="cpu"), layer_of(), chunk=5)
    cache, blocks = sequence.cache, sequence.table.long()
    bounds_KGP = page_bounds(sequence.q[0], cache.k[blocks, BLOCK], cache.v[blocks, BLOCK])
    best_KGP = torch.stack([page.amax(dim=2) for page in sequence.scores().split(BLOCK, dim=2)], dim=2)
    assert bounds_KGP.shape == best_KGP.shape
    assert (bounds_KGP.double() >= best_KGP - 1e-3).all()


def test_a_needle_is_found_in_a_hundredth_of_the_pages():
    sequence, layer = Sequence(3200), layer_of()
    sequence.k[777] = 4 * sequence.q[0, ::2]  # what the first head of each pair looks for
    out = sequence.attend(QuestAttention(config=QuestConfig(pages=2), device="cpu"), layer, chunk=800)
    torch.testing.assert_close(out[::2], sequence.v[777], rtol=0.02, atol=0.02)


def test_a_page_that_is_used_again_begins_with_new_bounds():
    quest, layer, sequence = (
        QuestAttention(config=QuestConfig(pages=2), device="cpu"),
        layer_of(),
        Sequence(90),
    )
    before = sequence.attend(quest, layer)
    sequence.k *= 100
    sequence.attend(quest, layer)
    sequence.k /= 100
    torch.testing.assert_close(sequence.attend(quest, layer), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pages": 0}, "attention.pages=0: must be at least 1"),
        ({"dense_layers": -1}, "attention.dense_layers=-1"),
    ],
)
def test_options(options, message):
    with pytest.raises(UserError, match=message):
        QuestConfig(**options)


def test_a_gpu_that_the_kernels_do_not_run_on_is_refused_at_start(monkeypatch):
    launch = pytest.importorskip("quire_kernels.triton.launch")
    launch.architecture_of.cache_clear()
    old = SimpleNamespace(major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: old)
    with pytest.raises(MissingCapability, match=r"attention=quest: GPU compute capability 7.5 is too old"):
        QuestAttention(config=QuestConfig(), device="cuda")


def test_a_head_that_the_kernels_cannot_hold_is_refused_at_start():
    pytest.importorskip("triton")
    backend = QuestAttention(config=QuestConfig(), device="cuda")
    geometry = KVGeometry(num_blocks=4, kv_heads=2, block_size=16, head_dim=320, dtype=torch.float16)
    with pytest.raises(MissingCapability, match=r"attention=quest: head_dim is 320; .* up to 256"):
        backend.kv_cache_spec(geometry)


def test_a_model_goes_on_as_ever_where_the_budget_covers_its_pages_and_runs_with_a_single_one():
    prompt = "Once upon a time there was a little girl who had a red ball. " * 8
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)

    def tokens(*overrides: str) -> list[int]:
        with LLM("demo", ["dtype=float32", "engine.block_size=16", *overrides]) as llm:
            return llm.generate([prompt], greedy)[0].samples[0].token_ids

    exact = tokens("attention=sdpa")
    assert tokens("attention=quest") == exact
    assert len(tokens("attention=quest", "attention.pages=1", "attention.dense_layers=0")) == 12
