"""`NewPlugin` keeps the contract of every sampler, and draws only near the largest logit."""

import pytest
import torch

from quire.cli.templates.sampler import NewPlugin, NewPluginConfig
from quire.engine.request import SamplingParams
from quire.errors import UserError
from quire.interfaces import Sampler
from quire.testing import SamplerSuite, make_rows


class TestContract(SamplerSuite):
    draws_as_asked = False

    def make(self) -> Sampler:
        return NewPlugin(config=NewPluginConfig())


def drawn(sigmas: float, temperature: float) -> set[int]:
    """Tokens that come up in many draws from logits with mean 2 and standard deviation 2."""
    logits_V = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    rows = make_rows([SamplingParams(temperature=temperature)] * 500)
    return set(
        NewPlugin(config=NewPluginConfig(sigmas=sigmas)).sample(logits_V.repeat(500, 1), rows).tolist()
    )


@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_tokens_within_so_many_deviations_can_be_drawn_whatever_the_temperature(temperature: float):
    assert drawn(sigmas=0.6, temperature=temperature) == {0, 1}
    assert drawn(sigmas=1.1, temperature=temperature) == {0, 1, 2}


def test_at_a_high_temperature_all_that_is_kept_comes_as_often():
    rows = make_rows([SamplingParams(temperature=1e6)] * 2000)
    logits_RV = torch.tensor([3.0, 2.0, -9.0]).repeat(2000, 1)
    tokens_R = NewPlugin(config=NewPluginConfig(sigmas=1.0)).sample(logits_RV, rows)
    assert 900 < int((tokens_R == 0).sum()) < 1100
    assert int((tokens_R == 2).sum()) == 0


def test_no_deviations_are_refused():
    with pytest.raises(UserError, match=r"sampler\.sigmas=0: must be more than 0"):
        NewPluginConfig(sigmas=0)
