"""What the studies of the shelf share: arms run on a virtual clock, claims judged, results written."""

from experiments.shelf.lab.claims import difference, ratio
from experiments.shelf.lab.figures import Panel
from experiments.shelf.lab.loads import Load, dataset, everything_at_once
from experiments.shelf.lab.simulation import (
    BLOCK_TOKENS,
    CALIBRATED,
    REAL,
    STATED,
    Outcome,
    copying,
    host_tokens,
    kv_tokens,
    machine,
)
from experiments.shelf.lab.study import Study

__all__ = [
    "BLOCK_TOKENS",
    "CALIBRATED",
    "REAL",
    "STATED",
    "Load",
    "Outcome",
    "Panel",
    "Study",
    "copying",
    "dataset",
    "difference",
    "everything_at_once",
    "host_tokens",
    "kv_tokens",
    "machine",
    "ratio",
]
