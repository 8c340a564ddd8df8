from quire.interfaces import Scheduler
from quire.testing.scheduler_suite import SchedulerSuite
from quire_plugins.schedulers.prefill_first import PrefillFirst, PrefillFirstConfig


class TestPrefillFirst(SchedulerSuite):
    def make(self) -> Scheduler:
        return PrefillFirst(config=PrefillFirstConfig())
