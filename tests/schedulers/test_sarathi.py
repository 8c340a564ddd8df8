from quire.interfaces import Scheduler
from quire.testing.scheduler_suite import SchedulerSuite
from quire_plugins.schedulers.sarathi import Sarathi, SarathiConfig


class TestSarathi(SchedulerSuite):
    def make(self) -> Scheduler:
        return Sarathi(config=SarathiConfig())
