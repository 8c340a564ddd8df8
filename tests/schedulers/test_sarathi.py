from quire.interfaces import Scheduler
from quire.testing import SchedulerSuite
from quire_plugins.schedulers.sarathi import Sarathi, SarathiConfig


class TestSarathi(SchedulerSuite):
    def make(self) -> Scheduler:
        return Sarathi(config=SarathiConfig(chunk_tokens=5))


class TestSarathiWithBudgetsAboveTheEngines(SchedulerSuite):
    def make(self) -> Scheduler:
        return Sarathi(config=SarathiConfig())
