"""`NewPlugin` measures on the demo model, as a run does."""

import json
from pathlib import Path

import pytest

from quire.cli.templates.task import NewPlugin, NewPluginConfig
from quire.config.compose import compose
from quire.errors import UserError
from quire.registry import load_registry
from quire.run import Run


def run_with(config: NewPluginConfig, directory: Path) -> None:
    registry = load_registry()
    overrides = ["attention=sdpa", "ops=torch", "device=cpu", "engine.kv_bytes=64MiB", "engine.threads=1"]
    composed = compose(overrides, registry)
    NewPlugin(config=config).run(Run(config=composed, registry=registry, directory=directory))


def test_each_batch_size_has_its_speed(tmp_path: Path):
    run_with(NewPluginConfig(batch_sizes=[1, 3], prompt_tokens=4, output_tokens=3), tmp_path)
    speeds = json.loads((tmp_path / "speed.json").read_text())
    assert list(speeds) == ["1", "3"]
    assert min(speeds.values()) > 0


def test_more_sequences_than_run_at_once_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"engine\.max_sequences is 64"):
        run_with(NewPluginConfig(batch_sizes=[65]), tmp_path)
