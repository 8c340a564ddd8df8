"""What every logits processor must do, as tests that a processor's own tests inherit."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quire.engine.request import SamplingParams
from quire.interfaces.sampler import LogitsProcessor, SamplingRows
from quire.testing.sampling_rows import make_rows

if TYPE_CHECKING:
    import torch

_VOCAB = 32
_EOS = (_VOCAB - 1,)


class LogitsProcessorSuite(ABC):
    """Inherit, say how to make one, and name parameters that ask for it:

    class TestMine(LogitsProcessorSuite):
        wanted = (SamplingParams(extra={"mine": 3}),)

        def make(self) -> LogitsProcessor:
            return Mine(config=MineConfig())
    """

    device: str = "cpu"
    wanted: Sequence[SamplingParams]
    """Parameters that want this processor, with token ids below 31 where they name any."""

    @abstractmethod
    def make(self) -> LogitsProcessor:
        """A new processor."""

    def test_it_is_wanted_only_by_those_that_ask(self) -> None:
        processor = self.make()
        assert not processor.wants(SamplingParams()), "the default parameters want no processor"
        for params in self.wanted:
            assert processor.wants(params), f"{params} should want it"
            processor.check(params, _VOCAB)

    def test_it_changes_something(self) -> None:
        for params in self.wanted:
            rows, logits_RV = self._rows([params] * 8), self._logits(8)
            assert not self._apply(logits_RV, rows).equal(logits_RV), f"{params} changed nothing in 8 rows"

    def test_every_row_keeps_a_token_to_sample(self) -> None:
        rows, logits_RV = self._rows(list(self.wanted) * 4), self._logits(4 * len(self.wanted))
        changed_RV = self._apply(logits_RV, rows)
        assert not changed_RV.isnan().any(), "a logit is not a number"
        assert (changed_RV.amax(dim=-1) > float("-inf")).all(), "a row has no token left"

    def test_a_row_depends_on_nothing_beside_it(self) -> None:
        params = list(self.wanted) * 4
        rows, logits_RV = self._rows(params), self._logits(len(params))
        together_RV = self._apply(logits_RV, rows)
        for r in range(len(params)):
            alone_1V = self._apply(logits_RV[r : r + 1], rows.select([r]))
            assert alone_1V[0].equal(together_RV[r]), f"row {r}, {params[r]}, differs when alone"

    def test_it_writes_nothing_but_logits(self) -> None:
        rows = self._rows(list(self.wanted))
        before = copy.deepcopy(rows)
        self._apply(self._logits(len(self.wanted)), rows)
        histories = [[history.tolist() for history in each.history] for each in (rows, before)]
        assert histories[0] == histories[1], "it changed a row's history"

    def _apply(self, logits_RV: torch.Tensor, rows: SamplingRows) -> torch.Tensor:
        changed_RV = logits_RV.clone()
        self.make().apply(changed_RV, rows)
        return changed_RV

    def _rows(self, params: Sequence[SamplingParams]) -> SamplingRows:
        """Rows with histories of 1 to 12 tokens, in which tokens and pairs of tokens repeat."""
        histories = [[(r + i * (1 + r % 3)) % 7 for i in range(1 + (5 * r) % 12)] for r in range(len(params))]
        num_prompt = [1 + len(history) // 2 for history in histories]
        return make_rows(params, histories=histories, num_prompt=num_prompt, eos_token_ids=_EOS)

    def _logits(self, rows: int) -> torch.Tensor:
        import torch

        generator = torch.Generator().manual_seed(1)
        return torch.randn(rows, _VOCAB, generator=generator).to(self.device)
