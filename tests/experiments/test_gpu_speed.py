"""The script that measures a GPU: what it makes of its rows, and that all its paths run, on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "gpu_speed"
ABSENT = ("hydra", "omegaconf", "fastapi", "uvicorn", "msgspec", "httptools", "llguidance", "wandb", "uvloop")
"""What a machine with a GPU may lack of quire's dependencies."""


@pytest.fixture
def experiment(monkeypatch):
    """Its modules can be imported, and are forgotten afterwards: their names are everyday words, which other
    experiments have as well.
    """
    monkeypatch.syspath_prepend(str(EXPERIMENT))
    names = {path.stem for path in EXPERIMENT.glob("*.py")}
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in names:
        sys.modules.pop(name, None)


def test_busy_counts_whole_steps_and_overlapping_kernels_once(experiment):
    from busy import Span, busy_per_step

    spans = []
    for step in range(5):
        t = 10.0 * step
        spans += [Span(name="embed", start=t + 1, end=t + 2)]
        spans += [Span(name="layer", start=t + 2 + k, end=t + 3.5 + k) for k in range(3)]  # 2 to 5.5
        spans += [Span(name="sample", start=t + 6, end=t + 7)]
    found = busy_per_step(reversed(spans), steps=5)
    assert found.steps == 4
    assert found.period == pytest.approx(10)
    assert found.busy == pytest.approx(1 + 3.5 + 1)
    assert found.kernels == 5


def test_busy_is_unknown_where_no_kernel_tells_the_steps_apart(experiment):
    from busy import Span, busy_per_step

    assert busy_per_step([], steps=8) is None
    spans = [Span(name="layer", start=k, end=k + 0.5) for k in range(64)]
    assert busy_per_step(spans, steps=8) is None


def decode_rows(paged: float, sdpa: float, flex: float) -> list[dict]:
    """Rows of a card that copies 3 TB/s, and attention at batch 64 and context 4,096 in so many seconds."""
    case = {"section": "decode_attention", "batch": 64, "context": 4096}
    moved = 2 * 64 * 4096 * 8 * 128 * 2
    return [
        {"section": "ceilings", "what": "copy", "bytes": 6e12, "seconds": 2.0},
        {"section": "ceilings", "what": "product", "operations": 8e14, "seconds": 1.0},
        {**case, "arm": "paged", "bytes": moved, "seconds": paged},
        {**case, "arm": "sdpa", "form": "a", "seconds": 9 * sdpa},
        {**case, "arm": "sdpa", "form": "b", "seconds": sdpa},
        {**case, "arm": "flex", "seconds": flex},
    ]


@pytest.mark.parametrize(
    ("share", "sdpa", "flex", "met"),
    [(0.9, 1.1, 1.2, True), (0.8, 1.1, 1.2, False), (0.9, 0.9, 1.2, False), (0.9, 1.1, 0.9, False)],
)
def test_decode_attention_must_reach_the_bandwidth_and_be_ahead_of_torch(experiment, share, sdpa, flex, met):
    from goals import table

    seconds = 2 * 64 * 4096 * 8 * 128 * 2 / 3e12 / share
    lines = table(decode_rows(seconds, sdpa * seconds, flex * seconds), dry=False)
    line = next(line for line in lines if line["what"] == "decode attention, batch 64, context 4096")
    assert line["met"] is met
    assert line["measured"] == f"{share:.0%}; {sdpa:.2f}x sdpa, {flex:.2f}x flex"


def test_what_was_not_measured_is_not_met_and_not_missed(experiment):
    from goals import render, table

    lines = table(decode_rows(1.0, 1.0, 1.0)[:2], dry=False)
    assert {line["met"] for line in lines} == {None}
    assert len(lines) == 2 + 5 + 1 + 2 + 2 + 1 + 1
    assert "MISSED" not in render(lines)


def test_wrong_kernels_are_named(experiment):
    from goals import table

    rows = [
        {"section": "kernels", "what": name, "ok": ok}
        for name, ok in (("a", True), ("b", False), ("c", True))
    ]
    line = table(rows, dry=False)[0]
    assert (line["measured"], line["met"], line["limit"]) == ("2 of 3", False, "b")


def test_it_imports_nothing_that_the_machine_lacks():
    """Read by a fresh interpreter that has neither quire's distribution nor most of its dependencies."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {str(EXPERIMENT)!r})
import measure, engine_speed, experts_speed, check_tokens, check_kernels, check_experts, attention_speed
import baseline, ceilings, check_pages, checkpoint
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_says_so(tmp_path):
    command = [sys.executable, str(EXPERIMENT / "measure.py"), "--out", str(tmp_path / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1
    assert done.stderr == "this machine shows no CUDA device; --dry tries the script on a CPU\n"


@pytest.mark.slow
def test_the_section_that_has_to_be_named_runs_dry(tmp_path):
    out = tmp_path / "results.json"
    command = [sys.executable, str(EXPERIMENT / "measure.py"), "experts", "--dry", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    rows = json.loads(out.read_text())["rows"]
    assert {(row["sequences"], row["cuda_graphs"]) for row in rows} == {
        (1, True),
        (3, True),
        (1, False),
        (3, False),
    }
    assert all(row["seconds"] > 0 and row["weight_bytes"] > 0 for row in rows)


@pytest.mark.slow
def test_every_section_runs_dry(tmp_path):
    out = tmp_path / "results.json"
    command = [sys.executable, str(EXPERIMENT / "measure.py"), "--dry", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(out.read_text())
    rows = report["rows"]
    assert not [row for row in rows if "failed" in row or "skipped" in row]
    assert all(row["ok"] for row in rows if "ok" in row)
    assert {"kernels", "tokens", "ceilings", "decode", "memory", "transformers"} <= {
        r["section"] for r in rows
    }
    assert all(line["met"] is not None for line in report["table"])
    assert out.with_suffix(".png").stat().st_size > 10_000
