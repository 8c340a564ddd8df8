"""The tables of the serving studies: made-up results by hand, and recorded ones as the pages show them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SOURCE = {"command": "python x.py", "commit": "0123456789abcdef", "machine": {"cpu": "a CPU", "cores": 2}}


def table(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(study / "table.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def page(name: str, report: dict[str, Any], directory: Path) -> str:
    """What the study's page becomes with these results; it is checked against them, too."""
    study = directory / name
    study.mkdir()
    for each in ("table.py", "README.md"):
        shutil.copy(EXPERIMENTS / name / each, study)
    (study / "results.json").write_text(json.dumps(SOURCE | report))
    assert table(study, "--check").returncode == 1, "it shows other results, or none"
    assert table(study).returncode == 0
    assert table(study, "--check").returncode == 0
    return (study / "README.md").read_text()


@pytest.mark.parametrize("name", ["serving_overhead", "serving_vs_vllm"])
def test_the_page_is_what_the_results_give(name: str) -> None:
    if (EXPERIMENTS / name / "results.json").exists():
        done = table(EXPERIMENTS / name, "--check")
        assert done.returncode == 0, done.stderr
    else:
        assert "No result is committed yet." in (EXPERIMENTS / name / "README.md").read_text()


def test_overhead_by_hand(tmp_path: Path) -> None:
    def figure(median: float) -> dict[str, float]:
        return {"least": median / 2, "median": median, "most": 2 * median}

    def arm(scale: float, **processes: float) -> dict[str, Any]:
        return {
            "tokens_per_second": figure(1000 * scale),
            "first_token_ms": figure(8 / scale),
            "cpu_ms_per_1000_tokens": {name: figure(value) for name, value in processes.items()},
        }

    pair = {
        "throughput_kept": figure(0.5),
        "added_first_token_ms": figure(4),
        "offline": arm(1, engine=120),
        "http": arm(0.5, engine=130, front=12, client=2) | {"tokens_per_event": figure(6)},
    }
    text = page("serving_overhead", {"disturbed_turns": 3, "pairs": {"default": pair}}, tmp_path)
    assert (
        "| default | offline | 1,000 [500, 2,000] |  | 8.0 [4.0, 16.0] |  | 120.0 [60.0, 240.0] |  |  |  |\n"
        in text
    )
    assert (
        "| default | http | 500 [250, 1,000] | 50.0 [25.0, 100.0] % | 16.0 [8.0, 32.0] | 4.0 [2.0, 8.0] "
        "| 130.0 [65.0, 260.0] | 12.0 [6.0, 24.0] | 2.0 [1.0, 4.0] | 6.00 [3.00, 12.00] |\n" in text
    )
    assert "`python x.py`, commit 0123456789ab, a CPU, 2 cores; 3 turns were played again" in text


def test_against_vllm_by_hand(tmp_path: Path) -> None:
    names = ("tokens_per_second", "first_p50_ms", "first_p99_ms", "between_p50_ms", "between_p99_ms")
    turn = dict.fromkeys(names, 2.0)
    report = {
        "versions": {"quire": "1", "vllm": "2"},
        "medians": {"4": {"quire": dict.fromkeys(names, 3.0), "vLLM": turn}},
        "quire_ahead": {"4": dict.fromkeys(names, False) | {"tokens_per_second": True}},
        "runs": {"quire": [{"4": dict.fromkeys(names, 3.0)}], "vLLM": [{"4": turn}, {"4": turn}]},
    }
    text = page("serving_vs_vllm", report, tmp_path)
    assert f"| 4 | quire | **3.0 [3.0, 3.0]** | {' | '.join(['3.0 [3.0, 3.0]'] * 4)} |\n" in text
    assert f"| 4 | vLLM | {' | '.join(['2.0 [2.0, 2.0]'] * 5)} |\n" in text
    assert "quire 1, vllm 2, a CPU, 2 cores" in text
