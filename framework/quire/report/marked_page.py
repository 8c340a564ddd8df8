"""Parts of a page that a script writes from recorded results, so that no number is typed.

A part stands between the lines `<!-- NAME -->` and `<!-- end of NAME -->`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from quire.errors import UserError


def rewritten(text: str, parts: Mapping[str, str]) -> str:
    """`text` with these parts in their places. Raises UserError for one that has no place."""
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, begins, rest = text.partition(begin)
        _, ends, after = rest.partition(end)
        if not begins or not ends:
            raise UserError(f"{begin.strip()} ... {end.strip()}: the page has no such lines")
        text = before + begin + part + end + after
    return text


def write_parts(page: Path, parts: Mapping[str, str]) -> None:
    """Put the parts in their places. Raises UserError for one that has none; nothing is written then."""
    page.write_text(rewritten(page.read_text(encoding="utf-8"), parts), encoding="utf-8")


def main(page: Path, make_parts: Callable[[], Mapping[str, str]], *, about: str, command: str) -> None:
    """A program that writes a page's parts, or with --check ends with status 1 if they are others."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a part is another")
    checks = parser.parse_args().check
    parts = make_parts()
    if not checks:
        write_parts(page, parts)
        return
    old = page.read_text(encoding="utf-8")
    if rewritten(old, parts) != old:
        sys.exit(f"{page.name} is not what the results give: {command} writes it")
