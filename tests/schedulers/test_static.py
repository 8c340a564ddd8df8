from quire.interfaces import Scheduler
from quire.testing.scheduler_suite import SchedulerSuite
from quire_plugins.schedulers.static import Static, StaticConfig


class TestStatic(SchedulerSuite):
    def make(self) -> Scheduler:
        return Static(config=StaticConfig())
