from quire.interfaces import Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.schedulers.prefill_first import PrefillFirst, PrefillFirstConfig


class TestPrefillFirst(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig())


class TestPrefillFirstWithHighWatermark(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig(watermark=0.5))
