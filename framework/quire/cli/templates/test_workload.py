"""`NewPlugin` keeps the contract of every workload, and makes the requests that its options say."""

import pytest

from quire.cli.templates.workload import NewPlugin, NewPluginConfig
from quire.errors import UserError
from quire.interfaces import Workload, WorkloadContext
from quire.testing import WorkloadSuite

WORKLOAD = NewPlugin(config=NewPluginConfig(bursts=3, size=2, gap=0.5, prompt_tokens=5, output_tokens=4))


class TestContract(WorkloadSuite):
    def make(self) -> Workload:
        return NewPlugin(config=NewPluginConfig())


def context(*, longest: int = 100) -> WorkloadContext:
    return WorkloadContext(seed=0, vocab_size=50, max_model_tokens=longest, tokenizer=None)


def test_bursts_arrive_together():
    requests = list(WORKLOAD.requests(context()))
    assert len(requests) == len(WORKLOAD) == 6
    assert [request.arrival_time for request in requests] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    for request in requests:
        assert len(request.prompt_token_ids) == 5
        assert request.sampling.max_tokens == 4


def test_requests_that_cannot_fit_are_refused():
    with pytest.raises(UserError, match="9 together, must be at most 8"):
        list(WORKLOAD.requests(context(longest=8)))
