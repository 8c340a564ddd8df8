"""Lengths of public traces as quantile knots, measured once from the traces; no other data of theirs is here.

azure_conv, azure_code   Azure LLM inference traces of 2023-11-16, chat and code completion (Patel et al.,
                         Splitwise, ISCA 2024; CC-BY-4.0)
sharegpt                 ShareGPT conversations as prepared for Sarathi-Serve, at most 8,192 tokens (Agrawal
                         et al., OSDI 2024; Apache-2.0)
mooncake                 a production chat cluster (Qin et al., Mooncake, FAST 2025; Apache-2.0)

The knots are in trace_lengths.csv: a row a level, columns of tokens.
"""

from __future__ import annotations

import csv
from pathlib import Path

from quire_plugins.workloads.lengths import JointLengths

_CORRELATIONS = {"azure_conv": 0.076, "azure_code": -0.022, "sharegpt": 0.053, "mooncake": 0.075}
"""Of the copula's normals, between the lengths of prompt and output."""


def _read(path: Path) -> dict[str, JointLengths]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {
        name: JointLengths(
            levels=[row["level"] for row in rows],
            prompt=[row[f"{name} prompt"] for row in rows],
            output=[row[f"{name} output"] for row in rows],
            correlation=correlation,
        )
        for name, correlation in _CORRELATIONS.items()
    }


TRACES = _read(Path(__file__).with_name("trace_lengths.csv"))
"""By the name that `workload.lengths` has for them."""
