"""What a person sees: the table's numbers, and how often progress is shown."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from quire.engine.records import RequestRecord
from quire.jobs import console as module
from quire.jobs.console import ServingProgress, results_table
from quire.metrics.summary import Summary


def rendered(summary) -> dict[str, list[str]]:
    """The table's rows by their label, and its title."""
    screen = io.StringIO()
    Console(file=screen, width=120).print(results_table(summary))
    title, *lines = screen.getvalue().splitlines()
    cells = ([cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line)
    return {"title": [title.strip()]} | {label: values for label, *values in cells}


def summary(*records, **fields) -> dict:
    gathered = Summary()
    for record in records:
        gathered.add_request(record)
    return {"interrupted": False, "error": None} | gathered.metrics() | fields


def request() -> RequestRecord:
    return RequestRecord(
        request_id="a",
        sample=0,
        tenant="default",
        arrival=0.0,
        num_prompt_tokens=1500,
        num_cached_tokens=375,
        first_scheduled=0.25,
        token_times=[0.5, 0.51, 0.54],
        finish=1.0,
        finish_reason="stop",
    )


def test_units_and_percentiles():
    rows = rendered(summary(request(), answers_right=3, answers_known=4, accuracy=0.75))
    assert rows["title"] == ["results"]
    assert rows["tokens in"][0] == "1,500"
    assert rows["tokens out"][0] == "3"
    assert rows["output tokens/s"][0] == "3.00"
    assert rows["total tokens/s"][0] == "1,503.0"
    assert rows["TTFT ms"] == ["500.0", "500.0", "500.0", "500.0"]
    assert rows["ITL ms"] == ["20.00", "20.00", "28.00", "29.80"]
    assert rows["queue ms"][0] == "250.0"
    assert rows["prefix hit rate"][0] == "25.0%"
    assert rows["answers right"][0] == "3 of 4, 75.0%"
    assert "failed samples" not in rows


def test_what_is_not_defined_is_a_dash_and_a_cut_says_so():
    rows = rendered(summary(interrupted=True))
    assert rows["title"] == ["results until the interrupt"]
    assert rows["TTFT ms"] == ["–"] * 4
    assert rows["output tokens/s"][0] == rows["peak KV use"][0] == rows["prefix hit rate"][0] == "–"
    rows = rendered(summary(interrupted=True, error="OSError: [broken]"))
    assert rows["title"] == ["results until the run failed: OSError: [broken]"]


@pytest.mark.parametrize(("terminal", "every"), [(False, 10.0), (True, 0.25)])
def test_progress_is_shown_at_intervals_and_at_the_end(monkeypatch, terminal, every):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    screen = io.StringIO()
    console = Console(file=screen, width=120, force_terminal=terminal, highlight=False)
    engine = SimpleNamespace(num_running=3, num_waiting=4, num_generated=7)
    with ServingProgress(console, engine=engine, total=5, label="serving") as progress:
        for seconds, done in ((0.5, 1), (0.6, 2), (1.0, 3)):
            now[0] = 100.0 + seconds * every
            engine.num_generated += 10
            progress.step(done=done)
    shown = screen.getvalue()
    assert ("1/5" in shown, "2/5" in shown) == (False, False)
    rate = f"{30 / every:,.0f} tokens/s  3 running  4 waiting"
    assert rate in shown
    assert "3/5" in shown
    if not terminal:
        assert shown == f"serving: 3/5 requests  {rate}\n" * 2
