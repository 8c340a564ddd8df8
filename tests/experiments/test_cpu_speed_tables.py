"""The tables of experiments/cpu_speed/README.md: what the recorded results give, and nothing typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

STUDY = Path(__file__).parents[2] / "experiments" / "cpu_speed"
SOURCE = {"command": "python x.py", "commit": "0123456789abcdef", "machine": {"cpu": "a CPU", "cores": 2}}


def tables(study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(study / "tables.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_page_is_what_the_results_give() -> None:
    done = tables(STUDY, "--check")
    assert done.returncode == 0, done.stderr


def summary(*times: float) -> dict[str, float]:
    return {"min": times[0], "median": times[1], "max": times[2]}


def test_steps_and_linears_by_hand(tmp_path: Path) -> None:
    study = tmp_path / "cpu_speed"
    study.mkdir()
    for name in ("tables.py", "results.py", "README.md"):
        shutil.copy(STUDY / name, study)
    mine = {"prefill_ms": summary(90, 100, 110), "decode_ms": summary(6, 7, 8)}
    theirs = {"prefill_ms": summary(100, 110, 120), "decode_ms": summary(14, 15, 16)}
    ratio = {"135m": {"1": {"prefill_ms": summary(0.9, 0.91, 0.92), "decode_ms": summary(0.4, 0.47, 0.5)}}}
    arms = {
        "135m": {"batches": {"1": mine}, "peak_rss_bytes": 7 * 10**8, "peak_rss_bound_bytes": 9 * 10**8},
        "135m, vLLM": {"batches": {"1": theirs}, "peak_rss_bytes": 10**9},
    }
    report = {"arms": arms, "ratios_to_vllm": ratio, "ratios_to_sdpa": {}, **SOURCE}
    (study / "steps.json").write_text(json.dumps(report))
    models = {"135m": {"bf16": {"32": [2.0, 4.0, 2.0]}, "w4a16": {"32": [2.2, 4.0, 2.0]}}}
    (study / "linears.json").write_text(json.dumps({"models": models, **SOURCE}))

    stale = tables(study, "--check")
    assert stale.returncode == 1
    assert "tables.py writes it" in stale.stderr
    assert tables(study).returncode == 0
    page = (study / "README.md").read_text()
    quotients = "0.91 [0.90, 0.92] | 0.47 [0.40, 0.50] (goal: 0.7)"
    assert f"| 135m, batch 1 | 100 [90, 110] | 7.0 [6.0, 8.0] | {quotients} |" in page
    assert "| 135m | 700 | 900 |" in page
    assert "| 32 | 2.00 | 1.00 [1.00, 1.10] |" in page
    assert "`python x.py`, commit 0123456789ab, a CPU, 2 cores." in page
    assert tables(study, "--check").returncode == 0


def test_throughput_and_accuracy_by_hand(tmp_path: Path) -> None:
    study = tmp_path / "cpu_speed"
    study.mkdir()
    for name in ("tables.py", "results.py", "README.md"):
        shutil.copy(STUDY / name, study)
    run = {
        "tokens_per_second": 800.0,
        "prefill_tokens_per_second": 3000.0,
        "start_to_first_token": 2.0,
        "peak_rss_mib": 1400.0,
        "profile": {"exposed": 0.05},
    }
    other = {key: value / 2 for key, value in run.items() if key != "profile"}
    runs = {"quire bf16": [run], "other": [other]}
    ratios = {"quire bf16": {"other": [2.0]}, "other": {"quire bf16": [0.5]}}
    (study / "results.json").write_text(json.dumps({"runs": runs, "ratios": ratios, **SOURCE}))
    assert tables(study).returncode == 0
    mine = "| quire bf16 | 800 | 3,000 | 2.0 | 1,400"
    assert f"{mine} | 5.0 % |  |  |  |  |" in (study / "README.md").read_text()

    names = ("quantization=none", "quantization=w8a8")
    rows = [
        {
            "configuration": name,
            "perplexity": 28.6,
            "known_answers": 0.9925,
            "random_135m": {"kl": 0.5 * place},
        }
        for place, name in enumerate(names)
    ]
    (tmp_path / "quantization").mkdir()
    (tmp_path / "quantization" / "results.json").write_text(json.dumps({"rows": rows}))
    assert tables(study).returncode == 0
    page = (study / "README.md").read_text()
    assert f"{mine} | 5.0 % |  | 28.60 | 99.2% | 0.00000 |" in page
    assert "| 2.00 |  |  |  |" in page
