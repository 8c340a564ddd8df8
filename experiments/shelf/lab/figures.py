"""Pictures of results: bars with a dot a seed, or lines with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_WIDTH = 3.4


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Bars of `values` (arm -> one a seed); where `x` is given, lines (series -> at each x, one a seed)."""

    label: str
    values: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    x: Sequence[float] = ()
    x_label: str = ""
    lines: Mapping[str, Sequence[Sequence[float]]] = field(
        default_factory=dict[str, Sequence[Sequence[float]]]
    )
    log: bool = False


def draw(panels: Sequence[Panel], path: Path) -> None:
    """All panels side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(_WIDTH * len(panels), 3.4), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        if panel.x:
            for name, values in panel.lines.items():
                means = [float(np.mean(each)) for each in values]
                low, high = [min(each) for each in values], [max(each) for each in values]
                (line,) = axis.plot(panel.x, means, marker=".", label=name)
                axis.fill_between(panel.x, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
            axis.set_xlabel(panel.x_label)
            axis.legend(fontsize=7)
        else:
            for place, values in enumerate(panel.values.values()):
                axis.bar(place, float(np.mean(values)), width=0.65, color=f"C{place}", alpha=0.75)
                axis.scatter([place] * len(values), values, s=9, color="black", zorder=3)
            axis.set_xticks(range(len(panel.values)), list(panel.values), rotation=30, ha="right", fontsize=8)
        if panel.log:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.set_title(panel.label, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
