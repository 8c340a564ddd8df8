"""The table of README.md, made from the recorded results, so that no number is typed.

python experiments/serving_vs_vllm/table.py            # writes it where README.md marks its place
python experiments/serving_vs_vllm/table.py --check    # says whether it is what the results give
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quire.report.marked_page import main

HERE = Path(__file__).parent
HEADS = {
    "tokens_per_second": "tokens/s",
    "first_p50_ms": "first token p50, ms",
    "first_p99_ms": "p99, ms",
    "between_p50_ms": "between tokens p50, ms",
    "between_p99_ms": "p99, ms",
}


def table(report: dict[str, Any]) -> str:
    """A line a rate and server: medians over the rounds, the least and the most in brackets."""
    rows = [("requests/s", "server", *HEADS.values()), ("---",) * (len(HEADS) + 2)]
    for rate in report["medians"]:
        for server, turns in report["runs"].items():
            rows.append(
                (rate, server, *(cell(report, server, rate, key, turns) for key in HEADS)),
            )
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    machine, commit = report["machine"], report["commit"] or "not committed"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{lines}\n`{report['command']}`, commit {commit[:12]}, {versions}, {machine['cpu']}, "
        f"{machine['cores']} cores. Bold: where quire is ahead.\n"
    )


def cell(report: dict[str, Any], server: str, rate: str, key: str, turns: list[dict[str, Any]]) -> str:
    values = [turn[rate][key] for turn in turns]
    text = f"{report['medians'][rate][server][key]:,.1f} [{min(values):,.1f}, {max(values):,.1f}]"
    ahead = server == "quire" and report["quire_ahead"][rate][key]
    return f"**{text}**" if ahead else text


def parts() -> dict[str, str]:
    return {"results": table(json.loads((HERE / "results.json").read_text()))}


if __name__ == "__main__":
    main(HERE / "README.md", parts, about=__doc__, command="python experiments/serving_vs_vllm/table.py")
