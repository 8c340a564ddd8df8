"""`quire report DIR`: what recorded runs come to, compared; a table, report.html, plots and tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from quire.errors import UserError


def main(arguments: Sequence[str]) -> None:
    """Report on the runs in a directory. Raises UserError if they cannot be read or compared."""
    parser = argparse.ArgumentParser(
        prog="quire report",
        description="Compare recorded runs: arms (policies) under the same conditions, paired by seed and "
        "request. Writes report.html, and a folder report/ with plots (PNG), tables (CSV, Parquet) and a "
        "trace for Perfetto.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="of a run, a sweep, or several")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to write (default: DIR)")
    parser.add_argument(
        "--baseline", metavar="ARM", help="what the others are compared with (default: first)"
    )
    parser.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="KEY",
        help="a configuration key, besides the policies', that is compared and not kept alike",
    )
    parser.add_argument(
        "--warmup",
        type=float,
        default=0.1,
        metavar="X",
        help="leave out requests that arrive in this fraction of the time of arrivals (default 0.1)",
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="X", help="of the intervals (default 0.95)"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.warmup < 1:
        raise UserError(f"--warmup {options.warmup}: must be in [0, 1)")
    if not 0 < options.confidence < 1:
        raise UserError(f"--confidence {options.confidence}: must be in (0, 1)")
    from rich.console import Console

    from quire.report.console import study_view
    from quire.report.page import write_page
    from quire.report.perfetto import write_requests_trace
    from quire.report.plots import write_plots
    from quire.report.study import load_study
    from quire.report.tables import write_tables

    study = load_study(
        options.directory,
        warmup=options.warmup,
        confidence=options.confidence,
        baseline=options.baseline,
        arm_keys=tuple(options.arm),
    )
    output: Path = options.output or options.directory
    extras = output / "report"
    try:
        extras.mkdir(parents=True, exist_ok=True)
        write_page(study, output / "report.html")
        write_plots(study, extras)
        write_tables(study, extras)
        write_requests_trace(study, extras / "perfetto.json")
    except OSError as error:
        raise UserError(f"{error.filename or output}: cannot be written: {error.strerror}") from None
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(study_view(study))
    console.print(f"{output / 'report.html'}; plots and tables are in {extras}", markup=False, soft_wrap=True)
