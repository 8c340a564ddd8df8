"""The study's plots as PNG, for papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.report.curves import Point, cdfs, points
from quire.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#7a5195")
_DASHES = ("-", "--", ":", "-.")
_LABELS = {"ttft_s": "TTFT (s)", "itl_s": "ITL (s)", "tpot_s": "TPOT (s/token)", "e2e_s": "E2E (s)"}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8eaee",
    "legend.frameon": False,
    "savefig.dpi": 200,
}


def write_plots(study: Study, directory: Path) -> list[Path]:
    """cdf.png, and with several arms or rates pareto.png, rates.png and changes.png; those written."""
    import matplotlib as mpl

    found = points(study)
    rates = {point.rate for point in found if point.rate is not None}
    figures: dict[str, Figure] = {}
    with mpl.rc_context(_STYLE):
        if found:
            figures["cdf"] = _cdf_figure(study)
        if len(found) > 1:
            figures["pareto"] = _pareto_figure(study, found)
        if len(rates) > 1:
            figures["rates"] = _rates_figure(study, found)
        if any(row.interval for each in study.comparisons for row in each.rows):
            figures["changes"] = _changes_figure(study)
        paths = [directory / f"{name}.png" for name in figures]
        for path, figure in zip(paths, figures.values(), strict=True):
            figure.savefig(path)
    return paths


def _figure(columns: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, column + 1) for column in range(columns)]


def _colour(study: Study, arm: str) -> str:
    return _COLOURS[study.arms.index(arm) % len(_COLOURS)]


def _named(arm: str, condition: str) -> str:
    return f"{arm}, {condition}" if condition else arm


def _scale(axes: Axes, which: str, values: list[float], *, margin: float = 1.0) -> None:
    """A logarithmic axis with plain numbers; a linear one where values are close, or not all positive."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values) / margin, max(values) * margin
    getattr(axes, f"set_{which}lim")(low, high if high > low else None)
    if low <= 0 or high < 5 * low:
        return
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float, place: int) -> str:
    del place
    return f"{value:g}"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


def _cdf_figure(study: Study) -> Figure:
    curves = cdfs(study)
    metrics = [name for name in _LABELS if any(curve.metric == name for curve in curves)]
    figure, all_axes = _figure(len(metrics), width=2.7 * len(metrics), height=2.7)
    for axes, metric in zip(all_axes, metrics, strict=True):
        drawn = [curve for curve in curves if curve.metric == metric]
        for curve in drawn:
            axes.plot(
                curve.values,
                curve.levels,
                color=_colour(study, curve.arm),
                linestyle=_DASHES[study.conditions.index(curve.condition) % len(_DASHES)],
                label=_named(curve.arm, curve.condition),
            )
        _scale(axes, "x", [end for curve in drawn for end in (curve.values[0], curve.values[-1])])
        axes.set(xlabel=_LABELS[metric], ylim=(0, 1.02))
    all_axes[0].set_ylabel("fraction")
    _legend(figure, all_axes[0])
    return figure


def _pareto_figure(study: Study, found: list[Point]) -> Figure:
    figure, (axes,) = _figure(1, width=4.2, height=3.2)
    for point in found:
        if "ttft_s.p99" not in point.latencies:
            continue
        colour = _colour(study, point.arm)
        axes.plot(
            point.throughput,
            point.latencies["ttft_s.p99"],
            "o",
            color=colour,
            markerfacecolor="white" if point.unstable else colour,
            label=point.arm if point is next(p for p in found if p.arm == point.arm) else None,
        )
    front = sorted((p.throughput, p.latencies["ttft_s.p99"]) for p in found if p.on_front and p.latencies)
    axes.plot(*zip(*front, strict=True), color="#999999", linestyle="--", linewidth=1, zorder=0)
    _scale(axes, "y", [p.latencies["ttft_s.p99"] for p in found if p.latencies], margin=1.5)
    axes.set(xlabel="output tokens/s", ylabel="p99 TTFT (s)")
    rates = [p.throughput for p in found]
    axes.set_xlim(0.9 * min(rates), 1.1 * max(rates))
    _legend(figure, axes)
    return figure


def _rates_figure(study: Study, found: list[Point]) -> Figure:
    shown = {"ttft_s.p99": "p99 TTFT (s)", "itl_s.p99": "p99 ITL (s)", "e2e_s.mean": "mean E2E (s)"}
    figure, all_axes = _figure(len(shown), width=8.4, height=2.9)
    for axes, (name, label) in zip(all_axes, shown.items(), strict=True):
        for arm in study.arms:
            line = sorted(
                (p.rate, p.latencies[name], p.unstable)
                for p in found
                if p.arm == arm and p.rate is not None and name in p.latencies
            )
            if not line:
                continue
            colour = _colour(study, arm)
            axes.plot([x for x, _, _ in line], [y for _, y, _ in line], "-o", color=colour, label=arm, ms=4)
            hollow = [(x, y) for x, y, unstable in line if unstable]
            axes.plot(
                [x for x, _ in hollow],
                [y for _, y in hollow],
                "o",
                color=colour,
                markerfacecolor="white",
                ms=4,
            )
        _scale(axes, "y", [p.latencies[name] for p in found if name in p.latencies], margin=1.3)
        axes.set(xlabel="requests/s", ylabel=label)
    _legend(figure, all_axes[0])
    return figure


def _changes_figure(study: Study) -> Figure:
    """Each metric's change with its interval, a panel a comparison."""
    compared = [each for each in study.comparisons if any(row.interval for row in each.rows)]
    tallest = max(len(each.rows) for each in compared)
    figure, all_axes = _figure(len(compared), width=3.0 + 2.4 * len(compared), height=0.8 + 0.27 * tallest)
    named: list[str] = []
    for axes, each in zip(all_axes, compared, strict=True):
        rows = [row for row in each.rows if row.interval is not None][::-1]
        for place, row in enumerate(rows):
            assert row.interval is not None
            colour = _colour(study, each.arm) if row.interval.excludes_zero else "#999999"
            low, high = 100 * row.interval.low, 100 * row.interval.high
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot(100 * row.interval.change, place, "o", color=colour, ms=5)
        axes.axvline(0, color="#333333", linewidth=0.8)
        labels = [row.label for row in rows]
        axes.set_yticks(
            range(len(rows)), labels if axes is all_axes[0] or labels != named else [""] * len(rows)
        )
        named = labels
        axes.set_title(_named(each.arm, each.condition), fontsize=9)
        axes.set_xlabel(f"change against {each.baseline} (%)")
    return figure
