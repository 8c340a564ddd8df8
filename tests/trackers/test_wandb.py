"""The W&B tracker, by what W&B's own reader finds in the run that it left; no server is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from quire.errors import UserError
from quire_plugins.trackers.wandb import WandbConfig

HERE = Path(__file__).parent
NO_KEY = {"WANDB_API_KEY": "", "NETRC": os.devnull}
CLOSED = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
"""A key, and a server that nobody listens for."""

PRELUDE = f"""
import logging, os, signal, sys, time
from pathlib import Path
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent / "tasks")!r}]
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("quire_plugins").setLevel(logging.INFO)
from records import request, step
from quire_plugins.trackers.wandb import WandbConfig, WandbMode, WandbTracker

def serve(tracker, steps, finish=True):
    for index in range(steps):
        tracker.step(step(index, 0.01 * (index + 1)))
        tracker.request(request(0.01 * (index + 1), arrival=0.0, request_id=str(index), token_times=[0.01]))
    if finish:
        tracker.finish({{"interrupted": False, "ttft_s": {{"p99": 0.5, "max": None}}}})
"""


def script(code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code`, after PRELUDE, in `directory`, with no account but what `environment` gives."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    directory.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code)],
        cwd=directory,
        env={**inherited, "HOME": str(directory), **NO_KEY, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_directory(directory: Path) -> Path:
    (found,) = directory.glob("wandb/offline-run-*")
    return found


def inspect(run: Path, *flags: str) -> str:
    wandb = [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", str(run)]
    return subprocess.run(wandb, capture_output=True, text=True, check=True, timeout=60).stdout


def records_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in inspect(run).splitlines()]


def pruned(content):
    """Without nulls and what is empty, which W&B leaves out of a config."""
    if not isinstance(content, dict):
        return content
    kept = {name: pruned(value) for name, value in content.items()}
    return {name: value for name, value in kept.items() if value not in (None, {}, [])}


def points(run: Path) -> list[dict[str, float]]:
    """The time series."""
    items = [each["history"]["item"] for each in records_of(run) if each["type"] == "history"]
    return [
        {key.removeprefix("serving/"): value for key, value in item.items() if key.startswith("serving/")}
        for item in items
        if "serving/time_s" in item
    ]


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> list[Path]:
    """Two cells of a sweep, one after another in one process: a real engine, its steps scripted."""
    directory = tmp_path_factory.mktemp("sweep")
    done = script(
        """
        from scripted import ScriptedRun
        from quire.jobs.launch import Launch
        from quire_plugins.workloads.synthetic import SyntheticConfig

        for cell, rate in enumerate((20.0, 40.0)):
            workload = SyntheticConfig(
                requests=30, rate=rate, prompt_mean=40.0, output_mean=20.0, output_cap=60
            )
            tracker = WandbConfig(interval_seconds=0.25, tags=["trial"])
            run = ScriptedRun(Path(str(cell)), workload=workload, tracker=tracker)
            run.launch = Launch(
                command=("run.py", "-m"),
                overrides=(f"workload.rate={rate}",),
                sweep=Path("multirun/2026-11-22/10-00-00").absolute(),
            )
            run.do()
        """,
        directory,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    runs = [run_directory(directory / cell) for cell in ("0", "1")]
    expected = [str(run.relative_to(directory)) for run in runs]
    assert [
        line.partition("to upload: wandb sync ")[2].removeprefix(f"{directory}/") for line in lines
    ] == expected
    return [directory / "0", directory / "1"]


def test_a_run_says_what_it_is_of(cells):
    for cell, rate in zip(cells, (20.0, 40.0), strict=True):
        found = json.loads(inspect(run_directory(cell), "--summary"))
        assert (found["state"], found["exit_code"]) == ("finished", 0), "also the first of two in one process"
        assert (found["project"], found["name"], found["tags"]) == (
            "quire",
            f"workload.rate={rate}",
            ["trial"],
        )
        ours = json.loads((cell / "config.json").read_text())
        theirs = found["config"]
        for key in ("config", "choices", "distributions", "command", "machine", "libraries", "sweep"):
            assert pruned(theirs[key]) == pruned(ours[key])
        assert theirs["config"]["workload"]["rate"] == rate
        assert theirs["choices"]["tracker"] == "wandb"
        assert theirs["commit"] == ours["distributions"]["quire"]["commit"]
        (run,) = [each["run"] for each in records_of(run_directory(cell)) if each["type"] == "run"]
        assert (run["run_group"], run["job_type"]) == ("2026-11-22/10-00-00", "bench")


def test_the_summary_is_that_of_the_file(cells):
    found = json.loads(inspect(run_directory(cells[0]), "--summary"))["summary"]
    ours = json.loads((cells[0] / "summary.json").read_text())
    assert found["ttft_s/p99"] == ours["ttft_s"]["p99"]
    assert found["output_tokens_per_s"] == ours["output_tokens_per_s"]
    assert found["interrupted"] is False


def test_the_time_series_is_what_the_steps_come_to(cells):
    run = run_directory(cells[0])
    steps = [json.loads(line) for line in (cells[0] / "steps.jsonl").read_text().splitlines()]
    series = points(run)
    assert 4 <= len(series) < len(steps) / 5, "a point an interval, not one a step"
    origin, last = steps[0]["start"], series[-1]
    ends = np.array([step["end"] for step in steps]) - origin
    assert last["time_s"] == pytest.approx(ends[-1])
    for point in series[:-1]:
        inside = [s for s, end in zip(steps, ends, strict=True) if 0 <= point["time_s"] - end - 1e-9 < 0.25]
        assert point["output_tokens_per_s"] == pytest.approx(sum(s["samples"] for s in inside) / 0.25)
        assert point["waiting"] == inside[-1]["num_waiting"]
        assert point["kv_use"] == inside[-1]["kv_used"] / inside[-1]["kv_total"]
    defined = [each["metric"] for each in records_of(run) if each["type"] == "metric"]
    assert any(each.get("glob_name") == "serving/*" for each in defined)
    assert all(each["step_metric"] == "serving/time_s" for each in defined if "glob_name" in each)


def test_requests_are_a_table_with_histograms_and_plots(cells):
    run = run_directory(cells[0])
    shown = json.loads(inspect(run, "--summary"))["summary"]
    requests = [json.loads(line) for line in (cells[0] / "requests.jsonl").read_text().splitlines()]
    table = json.loads((run / "files" / shown["requests/table"]["path"]).read_text())
    ttft = {
        row[table["columns"].index("request")]: row[table["columns"].index("ttft_s")] for row in table["data"]
    }
    assert ttft == pytest.approx({r["request_id"]: r["token_times"][0] - r["arrival"] for r in requests})
    assert sum(shown["requests/e2e_s"]["values"]) == len(requests) == 30
    assert {"plots/e2e_s_cdf_table", "plots/normalized_latency_s_cdf_table"} <= set(shown)


def test_the_files_are_an_artifact(cells):
    artifacts = [
        each["artifact"] for each in records_of(run_directory(cells[0])) if each["type"] == "artifact"
    ]
    (ours,) = [each for each in artifacts if each["type"] == "quire-run"]
    entries = {entry["path"]: entry for entry in ours["manifest"]["contents"]}
    assert set(entries) == {"config.json", "requests.jsonl", "steps.jsonl", "summary.json"}
    assert int(entries["steps.jsonl"]["size"]) == (cells[0] / "steps.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("environment", "reason"), [(NO_KEY, "no API key is configured"), (CLOSED, "connection refused")]
)
def test_without_a_key_or_a_network_the_run_is_offline_and_says_so_in_one_line(tmp_path, environment, reason):
    started = time.monotonic()
    done = script(
        """
        config = WandbConfig(mode=WandbMode.online, init_seconds=1.0)
        tracker = WandbTracker(config=config)
        tracker.start(Path("run"), {"choices": {"task": "bench"}})
        serve(tracker, steps=5)
        """,
        tmp_path,
        **environment,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    (line,) = done.stderr.splitlines()
    run = run_directory(tmp_path / "run")
    assert line.startswith("W&B: offline (")
    assert reason in line
    assert line.endswith((f"to upload: wandb sync {run.relative_to(tmp_path)}", f"wandb sync {run}"))
    assert json.loads(inspect(run, "--summary"))["summary"]["ttft_s/p99"] == 0.5
    assert len((tmp_path / "run" / "requests.jsonl").read_text().splitlines()) == 5


def test_a_killed_run_leaves_its_files(tmp_path):
    """W&B itself writes its log in blocks, so the last points of its series may be lost."""
    done = script(
        """
        tracker = WandbTracker(config=WandbConfig(interval_seconds=0.1))
        tracker.start(Path("run"), {})
        serve(tracker, steps=205, finish=False)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert done.returncode == -9, done.stderr
    assert len((tmp_path / "run" / "requests.jsonl").read_text().splitlines()) == 205


def test_if_wandbs_own_process_dies_the_run_goes_on_with_one_warning(tmp_path):
    done = script(
        """
        import subprocess
        tracker = WandbTracker(config=WandbConfig(interval_seconds=0.1))
        tracker.start(Path("run"), {})
        serve(tracker, steps=20, finish=False)
        children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        found = [int(pid) for pid in Path(children).read_text().split()]
        cores = [pid for pid in found if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(cores) == 1
        os.kill(cores[0], signal.SIGKILL)
        time.sleep(0.5)
        serve(tracker, steps=100)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("W&B: ") and "goes on" in line]
    assert len(warnings) == 1, done.stderr
    assert len((tmp_path / "run" / "requests.jsonl").read_text().splitlines()) == 120
    assert (tmp_path / "run" / "summary.json").exists()


def test_registering_imports_neither_wandb_nor_tensorboard():
    code = (
        "import sys; from quire.registry import load_registry; load_registry();"
        "print(sorted({'wandb', 'tensorboard', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "options",
    [
        {"project": ""},
        {"interval_seconds": 0.0},
        {"init_seconds": -1.0},
        {"table_rows": -1},
        {"flush_records": 0},
    ],
)
def test_bad_options_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"tracker\.{name}="):
        WandbConfig(**options)
