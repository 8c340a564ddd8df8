"""What every sampler must do, as tests that a sampler's own tests inherit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

from quire.engine.request import SamplingParams
from quire.interfaces.sampler import Sampler, SamplingRows
from quire.testing.sampling_rows import make_rows

if TYPE_CHECKING:
    import torch

_VOCAB = 50
_DRAWS = 4000


class SamplerSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(SamplerSuite):
            def make(self) -> Sampler:
                return Mine(config=MineConfig())

    What the tests draw is fixed by seeds: they come to the same in every run.
    """

    device: str = "cpu"
    draws_as_asked: bool = True
    """Unset it for a sampler that gives temperature, top-k, top-p or min-p a meaning of its own."""

    @abstractmethod
    def make(self) -> Sampler:
        """A new sampler."""

    def test_greedy_takes_the_most_probable(self) -> None:
        logits_RV = self._logits(32)
        params = [SamplingParams(temperature=1.0 if r % 3 == 0 else 0.0) for r in range(32)]
        tokens = self._sample(logits_RV, make_rows(params))
        best = logits_RV.argmax(dim=-1).tolist()
        greedy = [r for r in range(32) if r % 3]
        assert [tokens[r] for r in greedy] == [best[r] for r in greedy], (
            "temperature 0 takes the largest logit"
        )

    def test_a_row_depends_on_nothing_beside_it(self) -> None:
        """The same row gets the same token alone, in any order, and in any company."""
        logits_RV = self._logits(24)
        rows = make_rows([_PARAMS[r % len(_PARAMS)] for r in range(24)], seeds=[7 * r for r in range(24)])
        together = self._sample(logits_RV, rows)
        for r in range(24):
            assert self._sample(logits_RV[r : r + 1], rows.select([r])) == [together[r]], f"row {r} alone"
        backwards = list(range(23, -1, -1))
        reverse = self._sample(logits_RV[backwards], rows.select(backwards))
        assert reverse == together[::-1], "the order of the rows matters"

    def test_a_draw_belongs_to_its_seed_and_position(self) -> None:
        """Equal for equal seed and position, whatever was drawn before; otherwise independent."""
        flat_RV = self._logits(1).zero_().expand(64, -1)
        params = [SamplingParams()] * 64

        def draw(seeds: list[int], lengths: list[int]) -> list[int]:
            histories = [[0] * length for length in lengths]
            return self._sample(flat_RV, make_rows(params, seeds=seeds, histories=histories))

        assert len(set(draw([5] * 64, [9] * 64))) == 1, "one seed and position, and several draws"
        by_position = draw([5] * 64, list(range(1, 65)))
        by_seed = draw(list(range(64)), [9] * 64)
        assert by_position == draw([5] * 64, list(range(1, 65))), "the same draws come out differently"
        assert len(set(by_position)) > 20, "positions of one seed draw alike"
        assert len(set(by_seed)) > 20, "seeds draw alike"
        large = draw([2**64 - 1 - seed for seed in range(64)], [9] * 64)
        assert len(set(large)) > 20, "seeds have 64 bits"

    def test_tokens_come_as_often_as_their_probability_says(self) -> None:
        if not self.draws_as_asked:
            return
        logits_V = self._logits(1)[0]
        for temperature in (0.5, 1.0, 2.0):
            expected_V = (logits_V.double() / temperature).softmax(dim=-1).tolist()
            counts = self._counts(SamplingParams(temperature=temperature), logits_V)
            for token, probability in enumerate(expected_V):
                # Five standard deviations, and one draw for tokens that are hardly ever drawn.
                allowed = 5 * math.sqrt(_DRAWS * probability * (1 - probability)) + 1
                excess = counts[token] - _DRAWS * probability
                assert abs(excess) <= allowed, f"token {token}, temperature {temperature}: off by {excess}"

    def test_what_is_kept_can_be_drawn_and_nothing_else(self) -> None:
        if not self.draws_as_asked:
            return
        logits_V = self._logits(1)[0]
        probability: list[float] = logits_V.double().softmax(dim=-1).tolist()
        ranked = sorted(range(_VOCAB), key=probability.__getitem__, reverse=True)
        for k in (1, 3, 10):
            drawn = set(self._counts(SamplingParams(top_k=k), logits_V))
            assert drawn == set(ranked[:k]), f"top_k={k} drew {drawn}"
        for top_p in (0.05, 0.5, 0.8):
            nucleus = next(n for n in range(_VOCAB) if sum(probability[t] for t in ranked[:n]) >= top_p)
            drawn = set(self._counts(SamplingParams(top_p=top_p), logits_V))
            assert drawn == set(ranked[:nucleus]), f"top_p={top_p} drew {drawn}"
        for min_p in (0.2, 0.5, 1.0):
            kept = {t for t in range(_VOCAB) if probability[t] >= min_p * probability[ranked[0]]}
            drawn = set(self._counts(SamplingParams(min_p=min_p), logits_V))
            assert drawn == kept, f"min_p={min_p} drew {drawn}"

    def test_what_is_masked_is_never_drawn(self) -> None:
        logits_RV = self._logits(200)
        logits_RV[:, 3:] = -math.inf
        for params in _PARAMS:
            tokens = self._sample(logits_RV.clone(), make_rows([params] * 200))
            assert set(tokens) <= {0, 1, 2}, f"{params} drew a token whose logit is minus infinity"

    def _counts(self, params: SamplingParams, logits_V: torch.Tensor) -> Counter[int]:
        logits_RV = logits_V.expand(_DRAWS, -1).clone()
        return Counter(self._sample(logits_RV, make_rows([params] * _DRAWS)))

    def _sample(self, logits_RV: torch.Tensor, rows: SamplingRows) -> list[int]:
        import torch

        tokens_R = self.make().sample(logits_RV.clone(), rows)
        assert tokens_R.dtype == torch.int64, f"token ids are int64, not {tokens_R.dtype}"
        assert tokens_R.shape == (len(rows.params),), f"one token a row: {tuple(tokens_R.shape)}"
        assert tokens_R.device == logits_RV.device, (
            f"tokens on {tokens_R.device}, logits on {logits_RV.device}"
        )
        return tokens_R.tolist()

    def _logits(self, rows: int) -> torch.Tensor:
        """Random logits [rows, V], no two of a row equal."""
        import torch

        generator = torch.Generator().manual_seed(1)
        return (2 * torch.randn(rows, _VOCAB, generator=generator)).to(self.device)


_PARAMS = (
    SamplingParams(),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.3, top_k=5),
    SamplingParams(top_p=0.7),
    SamplingParams(temperature=1.7, min_p=0.1),
    SamplingParams(top_k=20, top_p=0.9, min_p=0.02),
)
