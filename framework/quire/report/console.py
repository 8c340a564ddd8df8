"""The study on the console: a table of the runs, and one of each comparison."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quire.report.comparison import Comparison, Row
from quire.report.page_data import summary_value
from quire.report.study import Study

_COLUMNS = (
    ("requests", "requests", 1.0),
    ("tok/s", "output_tokens_per_s", 1.0),
    ("TTFT ms", "ttft_s.mean", 1e3),
    ("p99", "ttft_s.p99", 1e3),
    ("TPOT ms", "tpot_s.mean", 1e3),
    ("ITL p99 ms", "itl_s.p99", 1e3),
    ("E2E s", "e2e_s.mean", 1.0),
    ("p99", "e2e_s.p99", 1.0),
)


def study_view(study: Study) -> RenderableType:
    """Everything that a person wants to see at once."""
    parts: list[RenderableType] = [_runs(study)]
    for each in study.comparisons:
        parts += [Text(), _comparison(each, study.confidence), Text(each.sentence, style="bold")]
    parts += [Text(), *(Text(f"note: {note}") for note in study.notes)]
    return Group(*parts)


def _runs(study: Study) -> Table:
    table = Table(title="runs", title_justify="left")
    with_condition = any(cell.condition for cell in study.cells)
    table.add_column("run")
    table.add_column("arm")
    if with_condition:
        table.add_column("condition")
    table.add_column("seed", justify="right")
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("drain s", justify="right")
    for cell in study.cells:
        window = study.windows.get(cell.run.name)
        marks = ["cut"] if cell.run.cut else []
        marks += ["unstable"] if window is not None and window.unstable else []
        cells = [cell.run.name + (f" ({', '.join(marks)})" if marks else ""), cell.arm]
        cells += [cell.condition] if with_condition else []
        cells += [str(cell.run.seed)]
        cells += [_shown(summary_value(cell.run.summary, name), scale) for _, name, scale in _COLUMNS]
        table.add_row(*(Text(each) for each in cells), _shown(window and window.drain_s, 1.0))
    return table


def _comparison(found: Comparison, confidence: float) -> Table:
    where = f" ({found.condition})" if found.condition else ""
    title = (
        f"{found.arm} against {found.baseline}{where}: {found.pairs:,} paired requests of {len(found.seeds)} "
    )
    table = Table(
        title=Text(title + ("seed" if len(found.seeds) == 1 else "seeds")),
        title_justify="left",
        caption=f"* also when all {len(found.rows)} metrics are taken together; better: paired requests with "
        "the smaller value",
        caption_justify="left",
    )
    table.add_column("metric")
    for heading in (found.baseline, found.arm, "change", f"{confidence:.0%} interval", "better"):
        table.add_column(Text(heading), justify="right")
    for row in found.rows:
        table.add_row(row.label, _shown(row.baseline, 1.0), _shown(row.arm, 1.0), *_effect(row))
    return table


def _effect(row: Row) -> tuple[Text, str, str]:
    better = "–" if row.better is None else f"{row.better:.0%}"
    found = row.interval
    if found is None:
        return Text("–"), "one seed", better
    star = "*" if row.cautious is not None and row.cautious.excludes_zero else ""
    improves = (found.change < 0) == (row.at != "run")
    style = ("green" if improves else "red") if found.excludes_zero else ""
    return (
        Text(f"{found.change:+.1%}{star}", style=style),
        f"{found.low:+.1%} to {found.high:+.1%}",
        better,
    )


def _shown(value: float | None, scale: float) -> str:
    if value is None:
        return "–"
    value *= scale
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
