"""Every tracker keeps the contract, and all of them the files of `tracker=jsonl`."""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from quire.interfaces import Tracker
from quire.registry import load_registry
from quire.testing import TrackerSuite
from quire_plugins.trackers.jsonl import JsonlConfig, JsonlTracker
from quire_plugins.trackers.tensorboard import TensorboardConfig, TensorboardTracker
from quire_plugins.trackers.wandb import WandbConfig, WandbMode, WandbTracker


class WithFiles(TrackerSuite):
    def recorded(self, directory: Path) -> Sequence[str]:
        lines = (directory / "requests.jsonl").read_text().splitlines()
        return [json.loads(line)["request_id"] for line in lines]


class TestJsonl(WithFiles):
    def make(self) -> Tracker:
        return JsonlTracker(config=JsonlConfig())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
class TestTensorboard(WithFiles):
    """Whose own thread dies when its directory is lost, and says so."""

    @pytest.fixture(autouse=True)
    def _heard_out(self) -> Iterator[None]:
        yield
        for thread in threading.enumerate():
            if type(thread).__name__ == "_AsyncWriterThread":
                thread.join(5.0)

    def make(self) -> Tracker:
        return TensorboardTracker(config=TensorboardConfig())


@pytest.mark.slow
@pytest.mark.parametrize("mode", WandbMode)
class TestWandb(WithFiles):
    """Online there is a key, and no server that would answer."""

    @pytest.fixture(autouse=True)
    def _closed(self, mode: WandbMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        import wandb

        self.mode = mode
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        for name in ("CACHE", "CONFIG", "DATA"):
            monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
        yield
        wandb.teardown()

    def make(self) -> Tracker:
        return WandbTracker(config=WandbConfig(mode=self.mode, init_seconds=0.5))


def test_none_is_left_out():
    assert set(load_registry().available("tracker").values()) == {
        JsonlTracker,
        TensorboardTracker,
        WandbTracker,
    }
