"""The TensorBoard tracker, by what TensorBoard's own reader finds in the file that it left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from records import request, step
from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from quire.errors import UserError
from quire_plugins.trackers.tensorboard import TensorboardConfig, TensorboardTracker

SUMMARY = {"interrupted": False, "steps": 40, "ttft_s": {"p99": 0.5, "max": None}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Of a run of 40 steps of 10 ms, in intervals of 100 ms; each step ends a request."""
    directory = tmp_path_factory.mktemp("run")
    tracker = TensorboardTracker(config=TensorboardConfig(interval_seconds=0.1))
    tracker.start(directory, {"choices": {"scheduler": "fcfs"}, "overrides": ["workload.rate=4"]})
    for index in range(40):
        tracker.step(step(index, 0.01 * (index + 1)))
        tracker.request(request(1.0, arrival=0.0, token_times=[0.1 * (index % 4)]))
    tracker.finish(SUMMARY)
    return directory


@pytest.fixture(scope="module")
def events(directory) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory / "tensorboard"), size_guidance={HISTOGRAMS: 0})
    return accumulator.Reload()


def test_the_time_series_has_a_point_an_interval(events):
    points = events.Scalars("serving/output_tokens_per_s")
    assert len(points) == 4
    assert points[-1].value == pytest.approx(200.0, rel=0.15)
    first, last = points[0], points[-1]
    assert last.wall_time - first.wall_time == pytest.approx(0.3, abs=0.02), "wall time is the engine's"
    assert last.step == 39


def test_the_summary_is_there_as_numbers(events):
    assert [point.value for point in events.Scalars("summary/ttft_s/p99")] == [0.5]
    assert [point.value for point in events.Scalars("summary/steps")] == [40.0]
    assert "summary/ttft_s/max" not in events.Tags()["scalars"]


def test_latencies_are_histograms(events):
    (point,) = events.Histograms("requests/ttft_s")
    histogram = point.histogram_value
    assert (histogram.num, histogram.max) == (40, pytest.approx(0.3))
    assert histogram.sum == pytest.approx(10 * (0.0 + 0.1 + 0.2 + 0.3))


def test_choices_and_overrides_are_hyperparameters_of_the_same_run(directory, events):
    metadata = events.SummaryMetadata("_hparams_/session_start_info")
    found = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert {name: value.string_value for name, value in found.items()} == {
        "scheduler": "fcfs",
        "workload.rate": "4",
    }
    assert len(list((directory / "tensorboard").rglob("events*"))) == 1


def test_the_files_are_written_too(directory):
    assert json.loads((directory / "summary.json").read_text()) == SUMMARY
    assert len((directory / "steps.jsonl").read_text().splitlines()) == 40


def test_without_the_package_the_error_says_how_to_get_it():
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'tensorboard' else real(name, *rest)\n"
        "from quire.config.compose import compose; from quire.registry import load_registry\n"
        "registry = load_registry()\n"
        "registry.create('tracker', compose(['tracker=tensorboard'], registry).tracker)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'quire[tensorboard]'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("options", [{"interval_seconds": 0.0}, {"histogram_rows": -1}])
def test_bad_options_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"tracker\.{name}="):
        TensorboardConfig(**options)
