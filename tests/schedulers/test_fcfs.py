from quire.interfaces import Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig


class TestFcfs(SchedulerSuite):
    def make(self) -> Scheduler:
        return Fcfs(config=FcfsConfig())
