"""Every set of operations keeps the contract; what suites themselves compute with is one of them."""

from quire.interfaces import Ops
from quire.registry import load_registry
from quire.testing import OpsSuite, PlainOps

REGISTRY = load_registry()


class TestTorchOps(OpsSuite):
    def make(self) -> Ops:
        kind = REGISTRY.get("ops", "torch")
        return kind(config=kind.Config(), device=self.device)


class TestNativeOps(OpsSuite):
    same_bits = True

    def make(self) -> Ops:
        kind = REGISTRY.get("ops", "native")
        return kind(config=kind.Config(), device=self.device)


class TestPlainOps(OpsSuite):
    def make(self) -> Ops:
        return PlainOps()


def test_none_is_left_out():
    assert set(REGISTRY.names("ops")) == {"torch", "native"}
