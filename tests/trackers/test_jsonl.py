"""The JSONL tracker: what it writes, when, and what a kill or a full disk leaves."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace

import numpy as np
import pytest
from records import request, step

from quire.errors import UserError
from quire_plugins.trackers.jsonl import JsonlConfig, JsonlTracker


def started(directory, **options) -> JsonlTracker:
    tracker = JsonlTracker(config=JsonlConfig(**options))
    tracker.start(directory, {"config": {"seed": 1}})
    return tracker


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_hold_exactly_the_records(tmp_path):
    tracker = started(tmp_path / "run")
    steps, requests = [step(i, 0.1 * i) for i in range(5)], [request(0.3), request(0.31)]
    for record in steps:
        tracker.step(record)
    for record in requests:
        tracker.request(record)
    tracker.finish({"interrupted": False, "output_tokens_per_s": None})
    directory = tmp_path / "run"
    assert lines(directory / "steps.jsonl") == [asdict(record) for record in steps]
    assert lines(directory / "requests.jsonl") == [asdict(record) for record in requests]
    assert json.loads((directory / "config.json").read_text()) == {"config": {"seed": 1}}
    assert json.loads((directory / "summary.json").read_text()) == {
        "interrupted": False,
        "output_tokens_per_s": None,
    }
    assert sorted(os.listdir(directory)) == ["config.json", "requests.jsonl", "steps.jsonl", "summary.json"]


def test_records_are_written_when_a_second_has_passed_on_the_engines_clock(tmp_path):
    tracker = started(tmp_path)
    tracker.request(request(0.5))
    tracker.step(step(0, 0.9))
    assert lines(tmp_path / "steps.jsonl") == []
    assert len(lines(tmp_path / "requests.jsonl")) == 1, "a request is written as it ends"
    tracker.step(step(1, 1.0))
    assert len(lines(tmp_path / "steps.jsonl")) == 2
    assert len(lines(tmp_path / "requests.jsonl")) == 1
    tracker.step(step(2, 1.9))
    assert len(lines(tmp_path / "steps.jsonl")) == 2
    tracker.finish({})


def test_records_are_written_when_enough_are_held(tmp_path):
    tracker = started(tmp_path, flush_records=3)
    for index in range(4):
        tracker.step(step(index, 0.0))
    assert [line["index"] for line in lines(tmp_path / "steps.jsonl")] == [0, 1, 2]
    tracker.finish({})
    assert [line["index"] for line in lines(tmp_path / "steps.jsonl")] == [0, 1, 2, 3]


def test_a_killed_run_leaves_every_request_whole_lines_and_its_description(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_jsonl import request, started, step
        from pathlib import Path
        tracker = started(Path({str(tmp_path)!r}), flush_records=10)
        for index in range(25):
            tracker.step(step(index, 0.0))
            tracker.request(request(0.3, request_id=str(index)))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert killed.returncode == -9
    assert [line["index"] for line in lines(tmp_path / "steps.jsonl")] == list(range(20))
    assert [line["request_id"] for line in lines(tmp_path / "requests.jsonl")] == list(map(str, range(25)))
    assert json.loads((tmp_path / "config.json").read_text())["config"] == {"seed": 1}


def test_a_directory_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"tracker=jsonl: cannot write to .*file"):
        started(tmp_path / "file" / "run")


def test_when_no_more_can_be_written_whole_lines_stay_and_the_run_goes_on(tmp_path):
    """A limit on file sizes stands for a full disk: it also accepts a part of the last write."""
    script = textwrap.dedent(
        f"""
        import resource, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_jsonl import request, started, step
        from pathlib import Path
        tracker = started(Path({str(tmp_path)!r}), flush_records=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for index in range(20):
            tracker.step(step(index, 0.0))
        tracker.request(request(0.3))
        tracker.finish({{"interrupted": False}})
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", script], timeout=60, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    kept = lines(tmp_path / "steps.jsonl")
    assert [line["index"] for line in kept] == list(range(len(kept)))
    assert 1 <= len(kept) < 5
    assert run.stderr == f"{tmp_path / 'steps.jsonl'} ends early, the run goes on: File too large\n"
    assert len(lines(tmp_path / "requests.jsonl")) == 1
    assert (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("options", [{"flush_records": 0}, {"flush_seconds": -1.0}])
def test_bad_options_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"tracker\.{name}="):
        JsonlConfig(**options)


def test_numbers_of_numpy_and_names_that_are_no_text_are_written_too(tmp_path):
    """A foreign executor may measure in numpy's numbers, and a client may call its request anything."""
    tracker = started(tmp_path)
    tracker.step(replace(step(0, 0.1), seconds=np.float64(0.25), kv_used=np.int64(3)))
    tracker.request(request(0.3, request_id="half a pair: \ud800"))
    tracker.finish({})
    (line,) = lines(tmp_path / "steps.jsonl")
    assert (line["seconds"], line["kv_used"]) == (0.25, 3)
    assert [each["request_id"] for each in lines(tmp_path / "requests.jsonl")] == ["half a pair: \ud800"]
