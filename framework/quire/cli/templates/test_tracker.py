"""`NewPlugin` keeps the contract of every tracker, and writes one row a sample, whatever ends the run."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from quire.cli.templates.tracker import NewPlugin, NewPluginConfig
from quire.engine.records import RequestRecord
from quire.errors import UserError
from quire.interfaces import Tracker
from quire.testing import TrackerSuite


class TestContract(TrackerSuite):
    def make(self) -> Tracker:
        return NewPlugin(config=NewPluginConfig())

    def recorded(self, directory: Path) -> Sequence[str]:
        with (directory / "requests.csv").open(newline="", encoding="utf-8") as file:
            return [row["request_id"] for row in csv.DictReader(file)]


def record(request_id: str, **fields: object) -> RequestRecord:
    given = {"sample": 0, "tenant": "default", "arrival": 0.5, "num_prompt_tokens": 7} | fields
    return RequestRecord(request_id=request_id, **given)  # pyright: ignore[reportArgumentType]


def test_one_row_a_sample(tmp_path: Path):
    tracker = NewPlugin(config=NewPluginConfig(file="table.csv"))
    tracker.start(tmp_path / "run", {})
    tracker.request(record("a", token_times=[1.0, 2.0], finish=2.0))
    tracker.request(record("b, with a comma", sample=1, error="refused"))
    tracker.finish({"interrupted": True})
    with (tmp_path / "run" / "table.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "request_id": "a",
        "sample": "0",
        "arrival": "0.5",
        "finish": "2.0",
        "num_prompt_tokens": "7",
        "num_output_tokens": "2",
        "error": "",
    }
    assert (second["request_id"], second["sample"], second["error"]) == ("b, with a comma", "1", "refused")


def test_the_file_stays_in_the_runs_directory():
    with pytest.raises(UserError, match=r"tracker.file='../x': must be"):
        NewPluginConfig(file="../x")
