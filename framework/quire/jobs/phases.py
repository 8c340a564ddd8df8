"""The profile of a run as a table for the console."""

from __future__ import annotations

from rich.table import Table

from quire.metrics.phases import PhaseReport


def phases_table(report: PhaseReport) -> Table:
    """A line a phase; below them what the model cost, and all the rest."""
    table = Table(
        title=f"profile: {report.steps:,} steps, {report.seconds:,.2f} s with work",
        title_justify="left",
        caption="exposed: the model is not computed meanwhile",
        caption_justify="left",
    )
    table.add_column("thread")
    table.add_column("phase")
    for heading in ("share", "exposed", "mean us", "p99 us"):
        table.add_column(heading, justify="right")
    for phase in report.phases:
        times = (f"{phase.mean_us:,.0f}", f"{phase.p99_us:,.0f}")
        table.add_row(phase.thread, phase.name, f"{phase.share:.2%}", f"{phase.exposed:.2%}", *times)
    table.add_section()
    table.add_row("", "model", f"{report.model:.2%}")
    table.add_row("", "outside the model", f"{report.exposed + report.hidden:.2%}", f"{report.exposed:.2%}")
    return table
