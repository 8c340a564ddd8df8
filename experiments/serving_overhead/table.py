"""The table of README.md, made from the recorded results, so that no number is typed.

python experiments/serving_overhead/table.py            # writes it where README.md marks its place
python experiments/serving_overhead/table.py --check    # says whether it is what the results give
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quire.report.marked_page import main

HERE = Path(__file__).parent
HEADS = (
    "pair",
    "arm",
    "tokens/s",
    "of offline",
    "p50 first token, ms",
    "above offline, ms",
    "CPU ms in 1,000 tokens: engine",
    "front",
    "client",
    "tokens an event",
)


def between(figures: dict[str, float] | None, digits: int = 1, scale: float = 1.0) -> str:
    """Median, and in brackets the least and the most; nothing where there are no figures."""
    if figures is None:
        return ""
    middle, low, high = (f"{figures[key] * scale:,.{digits}f}" for key in ("median", "least", "most"))
    return f"{middle} [{low}, {high}]"


def table(report: dict[str, Any]) -> str:
    rows = [HEADS, ("---",) * len(HEADS)]
    for name, pair in report["pairs"].items():
        for which in ("offline", "http"):
            arm = pair[which]
            cpu, compared = arm["cpu_ms_per_1000_tokens"], pair if which == "http" else {}
            kept = between(compared.get("throughput_kept"), 1, 100)
            rows.append(
                (
                    name,
                    which,
                    between(arm["tokens_per_second"], 0),
                    f"{kept} %" if kept else "",
                    between(arm["first_token_ms"]),
                    between(compared.get("added_first_token_ms")),
                    *(between(cpu.get(process)) for process in ("engine", "front", "client")),
                    between(arm.get("tokens_per_event"), 2),
                )
            )
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    machine, commit = report["machine"], report["commit"] or "not committed"
    return (
        f"{lines}\n`{report['command']}`, commit {commit[:12]}, {machine['cpu']}, {machine['cores']} cores; "
        f"{report['disturbed_turns']} turns were played again because the machine was not quiet.\n"
    )


def parts() -> dict[str, str]:
    return {"results": table(json.loads((HERE / "results.json").read_text()))}


if __name__ == "__main__":
    main(HERE / "README.md", parts, about=__doc__, command="python experiments/serving_overhead/table.py")
