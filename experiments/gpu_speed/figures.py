"""Curves over batch and context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goals import Rows, ceilings

_ARMS = ("paged", "sdpa", "flex")


def plot(raw: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bandwidth of decode attention over context for each batch, rates of prefill, seconds of steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = Rows(raw)
    best = ceilings(rows)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    paged = rows.all(section="decode_attention", arm="paged")
    moved = {(row["batch"], row["context"]): row["bytes"] for row in paged}
    for batch in sorted({batch for batch, _ in moved}):
        for arm, style in zip(_ARMS, ("-o", "--s", ":^"), strict=True):
            points = [
                (context, moved[batch, context] / seconds / 1e12)
                for b, context in sorted(moved)
                if b == batch
                and (seconds := rows.least_seconds(arm=arm, batch=b, context=context)) is not None
            ]
            if points:
                left.plot(*zip(*points, strict=True), style, label=f"{arm}, batch {batch}")
    if best is not None:
        left.axhline(best.bandwidth / 1e12, color="gray", label="copy")
        middle.axhline(best.operations / 1e12, color="gray", label="product")
    left.set(title="decode attention", xlabel="context", ylabel="TB/s of keys and values", xscale="log")
    for arm in _ARMS:
        points = sorted(
            (row["context"], row["operations"] / row["seconds"] / 1e12)
            for row in rows.all(section="prefill_attention", arm=arm)
        )
        if points:
            middle.plot(*zip(*points, strict=True), "-o", label=arm)
    middle.set(title="prefill attention", xlabel="tokens", ylabel="TFLOP/s", xscale="log")
    steps = sorted(
        (row for row in rows.all(section="decode") if "weight_bytes" in row), key=lambda r: r["sequences"]
    )
    if steps:
        batches = [row["sequences"] for row in steps]
        right.plot(batches, [row["seconds"] * 1e3 for row in steps], "-o", label="step")
        busy = [row for row in steps if row["busy_seconds"] is not None]
        right.plot(
            [r["sequences"] for r in busy],
            [r["busy_seconds"] * 1e3 for r in busy],
            "--s",
            label="kernels run",
        )
        if best is not None:
            floors = [(row["weight_bytes"] + row["kv_bytes"]) / best.bandwidth * 1e3 for row in steps]
            right.plot(batches, floors, ":^", label="weights + KV over bandwidth")
    right.set(title="decoding step, 8B", xlabel="sequences", ylabel="ms", xscale="log")
    for axes in (left, middle, right):
        axes.set_ylim(bottom=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
