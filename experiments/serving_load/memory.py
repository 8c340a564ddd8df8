"""The resident size of a server's two processes, every second, and how it grows."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from quire_server import Server

PROCESSES = ("front", "engine")
_MIB = 2**20


class Memory:
    """Samples both processes in a thread for as long as it is entered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began = time.monotonic()
        self._samples: list[tuple[float, float, float]] = []
        self._parts: dict[str, tuple[float, float]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def mark(self, part: str, began: float) -> None:
        """A part of the run, which began at that time of the monotonic clock, is over."""
        self._parts[part] = (began - self._began, time.monotonic() - self._began)

    def growth(self, part: str) -> dict[str, dict[str, float]]:
        """Of each process over the second half of a part: MiB at its begin and end, and the fitted slope."""
        began, ended = self._parts[part]
        half = [sample for sample in self._samples if (began + ended) / 2 <= sample[0] <= ended]
        assert len(half) > 2, f"{part} lasts {ended - began:.0f} s, too short for a slope"
        samples = np.asarray(half)
        return {
            name: {
                "mib_at_half": float(samples[0, column]),
                "mib_at_end": float(samples[-1, column]),
                "mib_per_minute": float(np.polyfit(samples[:, 0] / 60, samples[:, column], 1)[0]),
            }
            for column, name in enumerate(PROCESSES, 1)
        }

    def write(self, path: Path) -> None:
        """All samples, as csv."""
        lines = [",".join(("seconds", *(f"{name}_mib" for name in PROCESSES)))]
        lines += [",".join(map(str, sample)) for sample in self._samples]
        path.write_text("\n".join(lines) + "\n")

    def draw(self, path: Path) -> None:
        """Memory over time, one panel a process, the parts of the run shaded in turn."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        samples = np.asarray(self._samples)
        figure, panels = pyplot.subplots(2, 1, figsize=(8, 4.6), sharex=True, layout="constrained")
        for column, (panel, name) in enumerate(zip(panels, PROCESSES, strict=True), 1):
            panel.plot(samples[:, 0], samples[:, column], color="tab:blue", linewidth=1.2)
            panel.set_ylim(0, 1.1 * samples[:, column].max())
            panel.set_ylabel(f"{name}, MiB")
            for number, (part, (began, ended)) in enumerate(self._parts.items()):
                panel.axvspan(began, ended, color="grey", alpha=0.08 + 0.1 * (number % 2), linewidth=0)
                if panel is panels[0]:
                    panel.text((began + ended) / 2, 0, part, ha="center", va="bottom", fontsize=8)
        panels[-1].set_xlabel("seconds")
        figure.savefig(path, dpi=150)
        pyplot.close(figure)

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            front, engine = (size / _MIB for size in self._server.rss())
            now = time.monotonic() - self._began
            self._samples.append((round(now, 2), round(front, 2), round(engine, 2)))
