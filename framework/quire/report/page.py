"""report.html: one file that needs no network, made of the parts in page/ and the study's data."""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from quire.report.page_data import page_data
from quire.report.study import Study

_STYLES = ("style.css",)
_SCRIPTS = ("data.js", "charts.js", "tables.js", "timeline.js", "main.js")


def write_page(study: Study, path: Path) -> None:
    """Write the page."""
    parts = files("quire.report") / "page"
    data = page_data(study)
    filled = {
        "TITLE": html.escape(data["title"]),
        "STYLE": "\n".join((parts / name).read_text(encoding="utf-8") for name in _STYLES),
        "DATA": embed(data),
        "SCRIPT": "\n".join((parts / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    }
    page = (parts / "template.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")
    path.write_text(head + "".join(_fill(piece, filled) for piece in rest), encoding="utf-8")


def embed(data: Any) -> str:
    """`data` as JSON that may stand in a script element: whatever a request is called, it does not end it."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _fill(piece: str, filled: dict[str, str]) -> str:
    name, _, rest = piece.partition("}}")
    return filled[name] + rest


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
