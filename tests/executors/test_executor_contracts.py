"""Every executor keeps the contract."""

from quire.interfaces import Executor
from quire.registry import load_registry
from quire.testing import ExecutorSuite
from quire_plugins.executors.local import LocalConfig, LocalExecutor
from quire_plugins.executors.simulated import SimulatedConfig, SimulatedExecutor
from quire_plugins.executors.tensor_parallel import TensorParallelConfig, TensorParallelExecutor


class TestLocal(ExecutorSuite):
    def make(self, context) -> Executor:
        return LocalExecutor(config=LocalConfig(), context=context)


class TestTensorParallel(ExecutorSuite):
    """One rank, whose parts are those of the context; test_tensor_parallel has several."""

    overrides = ("executor=tensor_parallel", "executor.ranks=1")

    def make(self, context) -> Executor:
        return TensorParallelExecutor(config=TensorParallelConfig(ranks=1), context=context)


class TestSimulated(ExecutorSuite):
    virtual = True

    def make(self, context) -> Executor:
        return SimulatedExecutor(config=SimulatedConfig(), context=context)


def test_none_is_left_out():
    assert set(load_registry().names("executor")) == {"local", "tensor_parallel", "simulated"}
