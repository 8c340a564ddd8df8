"""`NewPlugin` keeps the contract of every logits processor, and bans what would repeat."""

import pytest
import torch

from quire.cli.templates.logits_processor import NewPlugin, NewPluginConfig
from quire.engine.request import SamplingParams
from quire.errors import UserError
from quire.interfaces import LogitsProcessor
from quire.testing import LogitsProcessorSuite, make_rows

PROCESSOR = NewPlugin(config=NewPluginConfig())
VOCABULARY = 10


class TestContract(LogitsProcessorSuite):
    wanted = (SamplingParams(extra={"new_plugin": 2}), SamplingParams(extra={"new_plugin": 3}))

    def make(self) -> LogitsProcessor:
        return NewPlugin(config=NewPluginConfig())


def banned(history: list[int], size: int) -> set[int]:
    """Tokens that may not follow `history`."""
    rows = make_rows([SamplingParams(extra={"new_plugin": size})], histories=[history])
    logits_RV = torch.zeros(1, VOCABULARY)
    PROCESSOR.apply(logits_RV, rows)
    return set(torch.nonzero(logits_RV[0] == float("-inf"))[:, 0].tolist())


def test_a_token_that_would_repeat_is_banned():
    assert banned([1, 2, 3, 1, 2], size=3) == {3}
    assert banned([1, 2, 1, 3, 1], size=2) == {2, 3}
    assert banned([1, 2, 3, 4, 5], size=2) == set()
    assert banned([1], size=3) == set()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_generating_as_it_allows_never_repeats(size: int):
    tokens = [0]
    while len(allowed := sorted(set(range(VOCABULARY)) - banned(tokens, size))) and len(tokens) < 60:
        tokens.append(allowed[0])
    grams = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
    assert len(set(grams)) == len(grams) > 10


@pytest.mark.parametrize("size", [1, 0, "two", 2.5])
def test_a_size_that_makes_no_sense_is_refused(size: object):
    with pytest.raises(UserError, match=f"new_plugin={size!r}: must be an integer of at least 2"):
        PROCESSOR.check(SamplingParams(extra={"new_plugin": size}), VOCABULARY)
