"""From the rows of a run to one table: what must be reached, what was, and what limits it.

Bounds come from the ceilings of the same run: bytes that must move over the bandwidth of a copy, operations
over the rate of a large product. The larger of the two is what limits; a share below 1 is what is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from checkpoint import shape_of

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table."""

    what: str
    goal: str
    measured: str
    met: bool | None
    """None: it was not measured."""
    limit: str


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Bytes and bf16 operations a second."""

    bandwidth: float
    operations: float


class Rows:
    """The rows of a run, found by their values."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def all(self, **values: Any) -> list[Row]:
        return [row for row in self._rows if all(row.get(key) == value for key, value in values.items())]

    def first(self, **values: Any) -> Row | None:
        return next(iter(self.all(**values)), None)

    def least_seconds(self, **values: Any) -> float | None:
        """Of the fastest form."""
        return min((row["seconds"] for row in self.all(**values) if "seconds" in row), default=None)


def ceilings(rows: Rows) -> Ceilings | None:
    copy, product = rows.first(what="copy"), rows.first(what="product")
    if copy is None or product is None:
        return None
    return Ceilings(
        bandwidth=copy["bytes"] / copy["seconds"], operations=product["operations"] / product["seconds"]
    )


def table(raw: Sequence[Row], *, dry: bool) -> list[dict[str, Any]]:
    """Every goal, in the order of the issue; a goal whose rows are missing says that it was not measured."""
    rows = Rows(raw)
    lines = [*_correct(rows)]
    best = ceilings(rows)
    if best is None:
        lines.append(_missing("every speed", "bounds measured in the same run"))
    else:
        lines += [*_decode_attention(rows, best, dry), *_prefill(rows, best, dry), *_steps(rows, best, dry)]
        lines += [*_offline(rows, best, dry), *_memory(rows)]
    return [asdict(line) for line in lines]


def _missing(what: str, goal: str) -> Line:
    return Line(what=what, goal=goal, measured="not measured", met=None, limit="")


def _correct(rows: Rows) -> Iterator[Line]:
    for section, what, goal in (
        ("kernels", "kernels against float64", "all within the rounding of their type"),
        ("tokens", "greedy tokens against transformers", "the same in float32, 95% in bfloat16"),
    ):
        checked = [row for row in rows.all(section=section) if "ok" in row]
        if not checked:
            yield _missing(what, goal)
            continue
        wrong = [row["what"] for row in checked if not row["ok"]]
        yield Line(
            what=what,
            goal=goal,
            measured=f"{len(checked) - len(wrong)} of {len(checked)}",
            met=not wrong,
            limit="; ".join(wrong[:3]),
        )


def _decode_attention(rows: Rows, best: Ceilings, dry: bool) -> Iterator[Line]:
    cases = [(2, 64, 0.85), (1, 300, 0.6)] if dry else [(64, 1024 * k, 0.85) for k in (4, 8, 16, 32)]
    for batch, context, least in cases if dry else [*cases, (1, 32768, 0.6)]:
        what = f"decode attention, batch {batch}, context {context}"
        goal = f"{least:.0%} of a copy's bandwidth" + (", ahead of torch" if least > 0.8 else "")
        here = {"batch": batch, "context": context}
        paged = rows.first(arm="paged", **here)
        if paged is None:
            yield _missing(what, goal)
            continue
        share = paged["bytes"] / paged["seconds"] / best.bandwidth
        others = {arm: rows.least_seconds(arm=arm, **here) for arm in ("sdpa", "flex")}
        known = {arm: seconds for arm, seconds in others.items() if seconds is not None}
        ahead = all(paged["seconds"] < seconds for seconds in known.values())
        compared = ", ".join(f"{seconds / paged['seconds']:.2f}x {arm}" for arm, seconds in known.items())
        yield Line(
            what=what,
            goal=goal,
            measured=f"{share:.0%}; {compared or 'torch not measured'}",
            met=share >= least and (least < 0.8 or (ahead and len(known) == 2)),
            limit=f"memory: {paged['bytes'] / best.bandwidth * 1e6:.0f} of {paged['seconds'] * 1e6:.0f} us",
        )


def _prefill(rows: Rows, best: Ceilings, dry: bool) -> Iterator[Line]:
    length = 48 if dry else 8192
    what, goal = f"prefill attention, {length} causal", "55% of a product's rate, 0.9 of torch's flash SDPA"
    paged = rows.first(arm="paged", what=f"prefill {length}")
    sdpa = rows.first(arm="sdpa", what=f"prefill {length}")
    if paged is None or sdpa is None:
        yield _missing(what, goal)
        return
    share = paged["operations"] / paged["seconds"] / best.operations
    ratio = sdpa["seconds"] / paged["seconds"]
    yield Line(
        what=what,
        goal=goal,
        measured=f"{share:.0%}; {ratio:.2f}x SDPA",
        met=share >= 0.55 and ratio >= 0.9,
        limit=f"arithmetic: {paged['operations'] / paged['seconds'] / 1e12:.0f} of "
        f"{best.operations / 1e12:.0f} TFLOP/s",
    )


def _steps(rows: Rows, best: Ceilings, dry: bool) -> Iterator[Line]:
    for sequences, least, with_kv in ((1, 0.8, False), (3 if dry else 64, 0.7, True)):
        what = f"decoding step, batch {sequences}"
        goal = f"{least:.0%} of weights{' + KV' if with_kv else ''} over bandwidth"
        row = rows.first(section="decode", sequences=sequences)
        if row is None:
            yield _missing(what, goal)
            continue
        moved = row["weight_bytes"] + (row["kv_bytes"] if with_kv else 0)
        floor = moved / best.bandwidth
        busy = row["busy_seconds"]
        yield Line(
            what=what,
            goal=goal,
            measured=f"{floor / row['seconds']:.0%} ({row['seconds'] * 1e3:.2f} ms)",
            met=floor / row["seconds"] >= least,
            limit=f"memory: {floor * 1e3:.2f} ms; "
            + ("kernels not seen" if busy is None else f"kernels run {busy * 1e3:.2f} ms"),
        )
    for sequences in (1, 3) if dry else (64, 256):
        what, goal = f"step overhead outside the GPU, {sequences} sequences", "under 5%"
        row = rows.first(section="decode", sequences=sequences)
        if row is None or row["busy_seconds"] is None:
            yield _missing(what, goal)
            continue
        idle = 1 - row["busy_seconds"] / row["seconds"]
        yield Line(
            what=what,
            goal=goal,
            measured=f"{idle:.1%}",
            met=idle < 0.05,
            limit=f"{row['kernels']:.0f} kernels a step, {row['seconds'] * 1e3:.2f} ms",
        )


def _offline(rows: Rows, best: Ceilings, dry: bool) -> Iterator[Line]:
    what, goal = "offline throughput, Azure's lengths", "4x transformers' continuous batching"
    ours = rows.first(section="offline", arm="quire")
    theirs = rows.first(section="transformers", arm="transformers")
    if ours is None:
        yield _missing(what, goal)
        return
    shape = shape_of(dry=dry)
    tokens = ours["prompt_tokens"] + ours["output_tokens"]
    operations = (
        2 * shape.product_parameters * tokens
        + 2 * shape.vocab * shape.hidden * ours["output_tokens"]
        + 4 * shape.layers * shape.heads * shape.head_dim * (ours["prefill_pairs"] + ours["decode_context"])
    )
    kv = 4 * shape.layers * shape.kv_heads * shape.head_dim * ours["decode_context"]
    moved = 2 * shape.read_parameters * ours["steps"] + kv
    bounds = {"arithmetic": operations / best.operations, "memory": moved / best.bandwidth}
    speed = ours["output_tokens"] / ours["seconds"]
    ratio = None if theirs is None else speed / max(theirs["output_tokens"] / theirs["seconds"], 1e-9)
    compared = "transformers not measured" if ratio is None else f"{ratio:.1f}x"
    yield Line(
        what=what,
        goal=goal,
        measured=f"{compared}; {speed:.0f} output, {tokens / ours['seconds']:.0f} total tokens/s",
        met=None if ratio is None else ratio >= 4,
        limit=f"{max(bounds, key=bounds.__getitem__)}: "
        + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in bounds.items())
        + f" of {ours['seconds']:.1f} s"
        + ("" if ours["whole"] else " (cut off)"),
    )


def _memory(rows: Rows) -> Iterator[Line]:
    goal = "2x static batching at the same memory"
    speeds = {
        row["arm"]: row["output_tokens"] / row["seconds"]
        for row in rows.all(section="memory")
        if "arm" in row
    }
    if "paged" not in speeds or "static" not in speeds:
        yield _missing("paged against contiguous and static", goal)
        return
    ratio = speeds["paged"] / max(speeds["static"], 1e-9)
    yield Line(
        what="paged against contiguous and static",
        goal=goal,
        measured=f"{ratio:.1f}x; "
        + ", ".join(f"{arm} {speed:.0f}" for arm, speed in speeds.items())
        + " tokens/s",
        met=ratio >= 2,
        limit="sequences that fit in",
    )


def render(lines: Sequence[Mapping[str, Any]]) -> str:
    """The table as text."""
    words = {True: "met", False: "MISSED", None: "-"}
    cells = [
        (line["what"], line["goal"], line["measured"], words[line["met"]], line["limit"]) for line in lines
    ]
    cells.insert(0, ("what", "must reach", "measured", "", "limited by"))
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
