"""Models divided among ranks: together they are the whole, which transformers computes."""

from pathlib import Path

import pytest
import torch
from checkpoints import VOCABULARY, make_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from loading import ARCHITECTURES, load
from packed import PackedRun, ReferenceAttention, random_sequences
from thread_ranks import on_ranks
from torch import Tensor
from torch.nn import functional

from quire.errors import MissingCapability, UserError
from quire.interfaces.ops import Head
from quire.interfaces.quantization import IntegerMatrix
from quire.models.checkpoint import open_checkpoint
from quire.models.shard import Cut, Share, local_spec
from quire.models.sharded_head import ShardedHead
from quire.models.spec import DecoderSpec
from quire.runtime.rank_group import RankGroup

LENGTHS = (1, 17, 40)


@pytest.mark.parametrize(
    "family",
    [
        "llama_tied_biased",
        "gemma2",
        "phi3",
        "qwen3",
        "qwen3_moe_mixed",
        "mixtral",
        "bloom",
        "falcon_two_norms",
        "deepseek_v2_groups",
        "deepseek_v3",
    ],
)
def test_two_ranks_equal_transformers(family: str, tmp_path: Path) -> None:
    """Merged and separate projections, biases, tied and untied tables, norms of heads, experts, latents."""
    oracle = make_checkpoint(family, tmp_path)
    sequences = random_sequences(LENGTHS, vocabulary=VOCABULARY)

    def logits(group: RankGroup) -> list[Tensor]:
        model = load(tmp_path, group=group)
        assert all(layer.kv_heads <= 2 and layer.heads == 2 for layer in model.layers)
        return PackedRun(model, ReferenceAttention(), sequences).finish(23)

    first, second = on_ranks(2, logits)
    for mine, others, sequence in zip(first, second, sequences, strict=True):
        with torch.no_grad():
            expected = oracle(torch.tensor([sequence])).logits[0].float()
        torch.testing.assert_close(mine, expected, atol=2e-4, rtol=1e-4)
        assert torch.equal(mine, others), "ranks draw from the very same logits"


@given(total=st.integers(0, 100), size=st.integers(1, 12))
def test_shares_are_all_there_is_once(total: int, size: int) -> None:
    ranges = [Share(rank=rank, size=size).of(total) for rank in range(size)]
    assert [index for start, end in ranges for index in range(start, end)] == list(range(total))
    if total % size == 0:
        assert {end - start for start, end in ranges} == {total // size}


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize(
    "cut",
    [Cut(dim=0, ranges=((1, 3), (6, 8))), Cut(dim=1, ranges=((8, 16),)), Cut(dim=1, ranges=((16, 20),))],
)
def test_a_part_of_a_quantised_weight_is_the_part_of_its_floats(cut: Cut, zeros: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = IntegerMatrix(
        values_OI=torch.randint(0, 16, (8, 20), generator=generator, dtype=torch.uint8),
        scales_OG=torch.rand(8, 5, generator=generator),
        zeros_OG=torch.randint(0, 16, (8, 5), generator=generator, dtype=torch.uint8) if zeros else None,
        bits=4,
        group_size=4,
    )
    assert torch.equal(cut.of_integers(matrix).to_float(), cut.of(matrix.to_float()))


def test_groups_are_not_cut_in_two() -> None:
    matrix = IntegerMatrix(
        values_OI=torch.zeros(2, 16, dtype=torch.uint8),
        scales_OG=torch.ones(2, 2),
        zeros_OG=None,
        bits=4,
        group_size=8,
    )
    with pytest.raises(UserError, match=r"^executor.ranks: .* columns 4 to 8 .* groups of 8: must be whole"):
        Cut(dim=1, ranges=((4, 8),)).of_integers(matrix)


class PlainHead(Head):
    def __init__(self, table_VE: Tensor) -> None:
        self._table_VE = table_VE

    def embed(self, ids_T: Tensor) -> Tensor:
        return functional.embedding(ids_T, self._table_VE)

    def logits(self, hidden_RE: Tensor) -> Tensor:
        return hidden_RE @ self._table_VE.T


@pytest.mark.parametrize(("vocabulary", "size"), [(12, 3), (13, 3), (10, 4)])
def test_a_vocabulary_that_cannot_be_divided_evenly(vocabulary: int, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    table_VE = torch.randn(vocabulary, 5, generator=generator)
    hidden_RE = torch.randn(3, 5, generator=generator)
    ids_T = torch.arange(vocabulary).flip(0)

    def ask(group: RankGroup) -> tuple[Tensor, Tensor]:
        start, end = group.share.of(vocabulary)
        head = ShardedHead(PlainHead(table_VE[start:end]), group=group, vocab_size=vocabulary)
        return head.embed(ids_T), head.logits(hidden_RE)

    for embedded_TE, logits_RV in on_ranks(size, ask):
        assert torch.equal(embedded_TE, table_VE[ids_T])
        torch.testing.assert_close(logits_RV, hidden_RE @ table_VE.T)


def spec_of(family: str, directory: Path) -> DecoderSpec:
    make_checkpoint(family, directory)
    checkpoint = open_checkpoint(str(directory))
    spec = ARCHITECTURES[checkpoint.architecture].spec(checkpoint.config)
    assert isinstance(spec, DecoderSpec)
    return spec


def test_heads_that_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^executor.ranks=4: must divide .*num_key_value_heads=2$"):
        local_spec(spec_of("llama", tmp_path), Share(rank=0, size=4))
    with pytest.raises(UserError, match=r"^executor.ranks=3: must divide .*num_attention_heads=4$"):
        local_spec(spec_of("llama", tmp_path), Share(rank=0, size=3))


def test_models_of_transformers_stay_whole(tmp_path: Path) -> None:
    make_checkpoint("gpt2", tmp_path)
    with pytest.raises(MissingCapability, match=r"^executor.ranks: GPT2LMHeadModel .* one rank only"):
        on_ranks(1, lambda group: load(tmp_path, group=group))
