"""Where the time of a profiled run went: one line a phase, and what all but the model cost.

A phase of the engine's thread is *exposed* for as long as no step is being computed meanwhile: the model
waits for it. The rest is *hidden* under a step. The executor computes nothing else during its own phases, so
those that are not the model's are exposed in full.

executor   |= step n ========================|           |= step n + 1 ===
engine            | schedule | wait          | commit          | output |
exposed                                      |###########|
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quire.engine.plan import MODEL_PHASES
from quire.engine.profile import IDLE, WAIT, Profile, Track


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A phase over a whole run. Shares are of the time in which the engine had work."""

    name: str
    thread: str
    """"engine" or "executor"."""
    share: float
    exposed: float
    """The part of `share` in which the model was not computed because of it."""
    mean_us: float
    p99_us: float
    """Microseconds a turn of its thread's loop: a call of `Engine.step`, or a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseReport:
    """All phases of a run in which there was work. Shares are of `seconds`."""

    seconds: float
    """In which the engine had work."""
    steps: int
    phases: tuple[Phase, ...]
    model: float
    """Share in which the model was computed: `MODEL_PHASES`."""
    exposed: float
    """All the rest: the model was not computed though there was work."""
    hidden: float
    """Share in which the engine's thread worked while a step was computed; it cost that step at most a part
    of a core."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def report_phases(profile: Profile) -> PhaseReport | None:
    """What `profile` comes to; None if nothing was done."""
    busy = _Busy(profile.executor)
    spans = [
        (name, thread, *track.spans(name))
        for thread, track in (("engine", profile.engine), ("executor", profile.executor))
        for name in dict.fromkeys(track.names)
        if name != IDLE
    ]
    seconds = sum(float((ends - starts).sum()) for _, thread, _, starts, ends in spans if thread == "engine")
    if not seconds:
        return None
    phases: list[Phase] = []
    for name, thread, turns, starts, ends in spans:
        lasted = ends - starts
        exposed = lasted if thread == "executor" else busy.uncovered(starts, ends)
        per_turn = np.bincount(np.unique(turns, return_inverse=True)[1], weights=lasted)
        phases.append(
            Phase(
                name=name,
                thread=thread,
                share=float(lasted.sum()) / seconds,
                exposed=0.0 if name in MODEL_PHASES else float(exposed.sum()) / seconds,
                mean_us=float(per_turn.mean()) * 1e6,
                p99_us=float(np.percentile(per_turn, 99)) * 1e6,
            )
        )
    model = sum(phase.share for phase in phases if phase.name in MODEL_PHASES)
    return PhaseReport(
        seconds=seconds,
        steps=len(profile.steps),
        phases=tuple(phases),
        model=model,
        exposed=1 - model,
        hidden=sum(p.share - p.exposed for p in phases if p.thread == "engine" and p.name != WAIT),
    )


class _Busy:
    """When steps were computed. They come in the order of time and do not overlap."""

    def __init__(self, executor: Track) -> None:
        starts, ends = np.asarray(executor.starts), np.asarray(executor.ends)
        self._edges = np.stack([starts, ends], axis=1).ravel()
        self._seconds = np.stack([np.zeros_like(starts), ends - starts], axis=1).ravel().cumsum()
        """Seconds of computing until each edge."""

    def uncovered(self, starts_N: np.ndarray, ends_N: np.ndarray) -> np.ndarray:
        """Seconds of each span in which no step was computed."""
        if not len(self._edges):
            return ends_N - starts_N
        covered_N = np.interp(ends_N, self._edges, self._seconds)
        covered_N -= np.interp(starts_N, self._edges, self._seconds)
        return ends_N - starts_N - covered_N
