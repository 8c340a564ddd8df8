"""The command line."""

from quire.cli.program import main

__all__ = ["main"]
