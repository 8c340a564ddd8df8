"""quire: a research framework for LLM inference in which every policy is a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.engine.request import Request, SamplingParams

if TYPE_CHECKING:
    from quire.llm import LLM

    __version__: str

__all__ = ["LLM", "Request", "SamplingParams", "__version__"]


def __getattr__(name: str) -> Any:
    """`LLM` brings Hydra along: it is imported when it is first asked for. Sources that are not installed
    have no version, and run all the same.
    """
    if name == "LLM":
        from quire.llm import LLM

        return LLM
    if name == "__version__":
        from importlib.metadata import version

        return version("quire")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
