"""What cost models share when they learn."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from quire.engine.shape import StepShape
from quire.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FEATURES = tuple(StepShape.__dataclass_fields__)
"""The counts of a step's shape, in order."""

FEWEST_STEPS = 50
"""Fewer say too little of so many counts."""

_values = attrgetter(*FEATURES)


def features(shapes: Sequence[StepShape]) -> npt.NDArray[np.float64]:
    """The counts of N shapes, [N, F] in the order of `FEATURES`. Raises UserError if there are too few."""
    import numpy as np

    if len(shapes) < FEWEST_STEPS:
        raise UserError(
            f"{len(shapes)} steps are too few to calibrate on; at least {FEWEST_STEPS} are needed"
        )
    return np.array([_values(shape) for shape in shapes], dtype=np.float64)


def relative_nnls(
    columns_NC: npt.NDArray[np.float64], seconds_N: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weights [C], none negative, of the columns whose sum is next to `seconds_N` in the least squares of
    relative errors (Lawson and Hanson, 1974, chapter 23).

    A few steps that something else on the machine held up would bend the fit: in a second and third pass
    those off by more than four times the median error count for less (Huber, 1964). As small relative errors
    favour short times, the weights are scaled at last so that all steps together, counted so, take as long as
    they did.
    """
    import numpy as np
    from scipy.optimize import nnls

    scale_C = columns_NC.max(axis=0)
    scale_C[scale_C == 0] = 1.0
    relative_NC = columns_NC / scale_C / seconds_N[:, None]
    trust_N = np.ones(len(seconds_N))
    weights_C = np.zeros(columns_NC.shape[1])
    for _ in range(3):
        root_N = np.sqrt(trust_N)
        weights_C, _ = nnls(relative_NC * root_N[:, None], root_N, maxiter=30 * columns_NC.shape[1])
        error_N = np.abs(relative_NC @ weights_C - 1.0)
        limit = 4.0 * float(np.median(error_N)) + 1e-9
        trust_N = np.minimum(1.0, limit / np.maximum(error_N, 1e-12))
    weights_C /= scale_C
    return weights_C * float((trust_N @ seconds_N) / (trust_N @ (columns_NC @ weights_C)))
