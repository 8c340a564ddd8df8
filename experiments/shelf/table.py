"""The table of the shelf in experiments/README.md, made from what the studies wrote.

python -m experiments.shelf.table
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from quire.report.marked_page import write_parts

STUDIES = (
    *("orca", "sarathi", "paged", "prefix", "shortest", "mlfq", "fairness", "past_future", "deadlines"),
    "eviction",
)
README = Path(__file__).resolve().parents[1] / "README.md"


def table() -> str:
    """One row a study: its paper's claim and its own words on the difference, and numbers of its results."""
    rows = ["| study | the paper claims | measured | why they differ |", "| --- | --- | --- | --- |"]
    for name in STUDIES:
        path = Path(__file__).parent / name / "results.json"
        found = (
            _measured(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else "not recorded yet"
        )
        study = import_module(f"experiments.shelf.{name}.measure")
        cells = (f"[{name}](shelf/{name})", study.PAPER, found, study.DIFFERENCES)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def write() -> None:
    """Put the table in its place."""
    write_parts(README, {"the shelf": table()})


def _measured(results: dict[str, Any]) -> str:
    files = sorted({load["from"] for load in results.get("loads", {}).values()})
    seeds, commit = len(results["seeds"]), results["commit"]
    recorded = "no commit" if commit is None else commit[:10] + "-dirty" * commit.endswith("-dirty")
    basis = "; ".join([f"{seeds} seed{'s' * (seeds > 1)}", *files, recorded])
    return "<br>".join([*map(_line, results["claims"]), f"({basis})"])


def _line(claim: dict[str, Any]) -> str:
    low, high = map(_number, claim["interval_95"])
    mean = _number(claim["mean"])
    found = mean if low == high == mean else f"{mean} [{low}, {high}]"
    due = [f"at least {_number(claim['at_least'])}"] if claim["at_least"] is not None else []
    due += [f"at most {_number(claim['at_most'])}"] if claim["at_most"] is not None else []
    verdict = "due" if claim["holds"] else "**fails**: due"
    return f"{'control: ' if claim['control'] else ''}{claim['what']}: {found}, {verdict} {' and '.join(due)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    write()
