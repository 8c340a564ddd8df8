"""What the kernels say they cannot do, said in the name of the backend that runs them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from quire.errors import MissingCapability


@contextmanager
def refused_by(name: str, *, instead: str = "attention=sdpa takes any") -> Generator[None]:
    """A ValueError of the kernels becomes a MissingCapability of `attention=name`."""
    try:
        yield
    except ValueError as error:
        raise MissingCapability(f"attention={name}: {error}; {instead}") from None
