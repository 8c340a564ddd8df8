from quire.interfaces import Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.schedulers.static import Static, StaticConfig


class TestStatic(SchedulerSuite):
    def make(self) -> Scheduler:
        return Static(config=StaticConfig())


class TestStaticInPairs(SchedulerSuite):
    def make(self) -> Scheduler:
        return Static(config=StaticConfig(batch_size=2))
