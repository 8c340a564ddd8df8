"""A task is what a run does: bench, generate, embed, serve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.run import Run


class Task(ABC):
    """The main program of a run, with its own options under `task.*`."""

    Config: type[Any]

    @abstractmethod
    def run(self, run: Run) -> None:
        """Do it. `run` builds the engine and its parts from the configuration and names the output directory.

        A user's mistake is a UserError; an interrupt keeps what there is so far.
        """
