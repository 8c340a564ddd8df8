"""`NewPlugin` keeps the contract of every predictor, and goes by the prompt."""

import pytest

from quire.cli.templates.predictor import NewPlugin, NewPluginConfig
from quire.errors import UserError
from quire.interfaces import LengthPredictor
from quire.testing import PredictorSuite, make_sequence


class TestContract(PredictorSuite):
    def make(self, seed: int) -> LengthPredictor:
        return NewPlugin(config=NewPluginConfig(), seed=seed)


def test_the_longer_the_prompt_the_longer_the_output():
    predictor = NewPlugin(config=NewPluginConfig(ratio=2.0), seed=0)
    short, long = (make_sequence((1,) * prompt, order=prompt).view for prompt in (3, 10))
    assert [predictor.total(short), predictor.total(long)] == [6, 20]
    assert predictor.quantile(long, 0.75) == 30


def test_a_ratio_that_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"predictor\.ratio=0\.0: must be more than 0"):
        NewPluginConfig(ratio=0.0)
