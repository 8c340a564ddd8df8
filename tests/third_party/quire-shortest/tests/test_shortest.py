from quire_shortest import Shortest, ShortestConfig

from quire.testing import SchedulerSuite


class TestShortest(SchedulerSuite):
    def make(self):
        return Shortest(config=ShortestConfig())
