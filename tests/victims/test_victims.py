"""Who gives way, of the same candidates."""

import pytest

from quire.interfaces import LengthPredictor
from quire.registry import load_registry
from quire.testing import make_sequence


class ByPrompt(LengthPredictor):
    def total(self, seq):
        return {0: 5, 1: 90, 2: 40, 3: 90}[seq.order]

    def quantile(self, seq, q):
        return self.total(seq)


def candidates():
    """In the order 2, 0, 3, 1 of some scheduler, with 7, 3, 3 and 9 tokens computed."""
    made = {order: make_sequence((1, 2, 3), order=order) for order in range(4)}
    for order, computed in {2: 7, 0: 3, 3: 3, 1: 9}.items():
        made[order].num_computed = computed
    return [made[order].view for order in (2, 0, 3, 1)]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("last", 1), ("latest", 3), ("earliest", 0), ("least_progress", 3), ("longest_remaining", 3)],
)
def test_the_one_that_the_name_says(name, chosen):
    plugin = load_registry().get("victim", name)
    parts = {"predictor": ByPrompt()} if plugin.uses_predictor else {}
    assert plugin(config=plugin.Config(), **parts).choose(candidates()).order == chosen


def test_the_lowest_priority():
    views = candidates()
    for view, priority in zip(views, [0, 7, 7, 2], strict=True):
        request = view._sequence.request
        view._sequence.request = type(request)(id=request.id, prompt_token_ids=(1,), priority=priority)
    plugin = load_registry().get("victim", "lowest_priority")
    assert plugin(config=plugin.Config()).choose(views).order == 3
