"""What came out: a JSON file, and the table of the README that is made from it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def record(outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the outcomes in the file, beside those of clients that were not tried now; then the table anew."""
    known = json.loads(RESULTS.read_text())["clients"] if RESULTS.exists() else {}
    known |= {name: {**outcome, **_provenance()} for name, outcome in outcomes.items()}
    RESULTS.write_text(json.dumps({"clients": dict(sorted(known.items()))}, indent=1) + "\n")
    write_table(known)


def write_table(clients: Mapping[str, Mapping[str, Any]]) -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table(clients)}\n{END}{after}", encoding="utf-8")


def table(clients: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a client; what fails is named with what was said of it."""
    lines = ["| client | version | passes | fails |", "| --- | --- | --- | --- |"]
    for name, outcome in sorted(clients.items()):
        checks: Mapping[str, str | None] = outcome["checks"]
        notes: Mapping[str, str] = outcome.get("notes", {})
        passed = [
            f"{check} ({notes[check]})" if check in notes else check
            for check, failure in checks.items()
            if failure is None
        ]
        failed = [f"{check}: {_short(failure)}" for check, failure in checks.items() if failure is not None]
        lines.append(
            f"| {name} | {outcome['version']} | {len(passed)} of {len(checks)}: {'; '.join(passed)} "
            f"| {'; '.join(failed) or 'nothing'} |"
        )
    return "\n".join(lines)


def _short(failure: str) -> str:
    line = " ".join(failure.split()).replace("|", "\\|")
    return line if len(line) <= 160 else f"{line[:160]}..."


def _provenance() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=RESULTS.parent,
        check=False,
    )
    return {
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
