from serving import request, served

from quire.interfaces import Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.schedulers.prefill_first import PrefillFirst, PrefillFirstConfig


class TestPrefillFirst(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig())


class TestPrefillFirstWithHighWatermark(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig(watermark=0.5))


def test_the_watermark_counts_the_prompt_that_comes_in():
    """Three prompts of 6 blocks fit into 20, but not with the 3 blocks that each grows by."""
    requests = [request(name, prompt=24, output=11) for name in "abc"]

    def preemptions(watermark: float) -> int:
        return served(
            PrefillFirst(config=PrefillFirstConfig(watermark=watermark)), requests, blocks=20
        ).preemptions

    assert preemptions(0.0) > 0
    assert preemptions(0.25) == 0
