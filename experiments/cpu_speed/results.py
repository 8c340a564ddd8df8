"""The comparison's table and picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

Runs = Mapping[str, list[dict]]


def ratios(runs: Runs, name: str, key: str) -> dict[str, list[float]]:
    """How many times as much `name` has of `key` as each other arm, one ratio a round."""
    return {
        other: [mine[key] / theirs[key] for mine, theirs in zip(runs[name], made, strict=True)]
        for other, made in runs.items()
        if other != name
    }


def spread(values: list[float], digits: int = 1) -> str:
    """Median, and in brackets the least and the most."""
    low, middle, high = (
        f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} [{low}, {high}]" if len(values) > 1 else middle


def print_table(report: dict) -> None:
    """One line an arm, missing ones among them; a ratio is quire's speed over that arm's, in one round."""
    own = [name for name in report["runs"] if name.startswith("quire")]
    table = Table(
        title=f"{report['shape']}, {report['requests']} requests, median [least, most]", title_justify="left"
    )
    columns = ("output tokens/s", "prefill tokens/s", "s to first token", "peak RSS, MiB")
    for heading in ("arm", *columns, *(f"{name} is x times" for name in own)):
        table.add_column(heading, justify="left" if heading == "arm" else "right", overflow="fold")
    for name, made in report["runs"].items():
        cells = [
            spread([each["tokens_per_second"] for each in made]),
            spread([each["prefill_tokens_per_second"] for each in made], 0),
            spread([each["start_to_first_token"] for each in made]),
            spread([each["peak_rss_mib"] for each in made], 0),
        ]
        against = [report["ratios"][mine].get(name) for mine in own]
        table.add_row(name, *cells, *(spread(each, 2) if each else "" for each in against))
    for name, why in report["missing"].items():
        table.add_row(name, f"missing: {why}")
    Console(highlight=False).print(table)


def plot(report: dict, path: Path) -> None:
    """Bars of the median tokens a second, with the least and the most as whiskers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(report["runs"])[::-1]
    speeds = [[each["tokens_per_second"] for each in report["runs"][name]] for name in names]
    middle = [statistics.median(each) for each in speeds]
    whiskers = [
        [m - min(each) for m, each in zip(middle, speeds, strict=True)],
        [max(each) - m for m, each in zip(middle, speeds, strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(names) + 1.4), layout="constrained")
    colors = ["tab:blue" if name.startswith("quire") else "tab:gray" for name in names]
    bars = axes.barh(names, middle, xerr=whiskers, color=colors, capsize=3)
    axes.bar_label(bars, [f"{value:,.0f}" for value in middle], padding=6)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("output tokens/s")
    axes.set_title(
        f"{report['shape']}, {report['requests']} requests at once, {report['machine']['cores']} cores",
        loc="left",
    )
    figure.savefig(path, dpi=150)
