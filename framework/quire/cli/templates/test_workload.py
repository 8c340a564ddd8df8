"""`NewPlugin` makes the requests that its options say, the same for the same seed."""

import pytest

from quire.cli.templates.workload import NewPlugin, NewPluginConfig
from quire.errors import UserError
from quire.interfaces import WorkloadContext

WORKLOAD = NewPlugin(config=NewPluginConfig(bursts=3, size=2, gap=0.5, prompt_tokens=5, output_tokens=4))


def context(*, seed: int = 0, longest: int = 100) -> WorkloadContext:
    return WorkloadContext(seed=seed, vocab_size=50, max_model_tokens=longest, tokenizer=None)


def test_bursts_arrive_together():
    requests = list(WORKLOAD.requests(context()))
    assert len(requests) == len(WORKLOAD) == 6
    assert [request.arrival_time for request in requests] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert len({request.id for request in requests}) == 6
    for request in requests:
        assert len(request.prompt_token_ids) == 5
        assert all(0 <= token < 50 for token in request.prompt_token_ids)
        assert request.sampling.max_tokens == 4


def test_the_seed_decides():
    assert list(WORKLOAD.requests(context(seed=1))) == list(WORKLOAD.requests(context(seed=1)))
    assert list(WORKLOAD.requests(context(seed=1))) != list(WORKLOAD.requests(context(seed=2)))


def test_requests_that_cannot_fit_are_refused():
    with pytest.raises(UserError, match="9 together, must be at most 8"):
        list(WORKLOAD.requests(context(longest=8)))
