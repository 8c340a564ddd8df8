"""`quire report` as a user runs it, and the plots, tables and trace that it leaves."""

import csv
import json

import pyarrow.parquet as parquet
import pytest
from recordings import sample, served, step, write_run

from quire.cli.report import main
from quire.errors import UserError
from quire.report.curves import pareto_front


@pytest.fixture
def two_rates(tmp_path):
    for rate in (2.0, 4.0):
        for seed in (1, 2):
            for place, name in enumerate(("fcfs", "mine")):
                requests = served(seed, slower=0.9 if place else 1.0)
                config = {"workload": {"rate": rate}, "seed": seed, "scheduler": name}
                write_run(tmp_path / f"{name}-{rate:g}-{seed}", requests, [step(0, 0.0, 1.0)], **config)
    return tmp_path


def test_the_console_shows_runs_verdicts_and_notes(two_rates, capsys):
    main([str(two_rates)])
    shown = capsys.readouterr().out
    assert "mine against fcfs (workload.rate=4): lowers mean TTFT by 10% [10, 10]" in " ".join(shown.split())
    assert "workload.rate=2" in shown
    assert "note: unstable: " in shown
    assert str(two_rates / "report.html") in shown


def test_plots_tables_and_trace_are_written(two_rates, tmp_path, capsys):
    main([str(two_rates), "-o", str(tmp_path / "elsewhere")])
    out = tmp_path / "elsewhere"
    assert (out / "report.html").stat().st_size > 10_000
    for name in ("cdf", "pareto", "rates", "changes"):
        assert (out / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    requests = parquet.read_table(out / "report" / "requests.parquet").to_pylist()
    assert len(requests) == 8 * 40
    first = served(1)[0]
    row = next(r for r in requests if r["run"] == "fcfs-2-1" and r["request_id"] == "r0")
    assert (row["arm"], row["condition"], row["seed"]) == ("fcfs", "workload.rate=2", 1)
    assert row["ttft_s"] == pytest.approx(first.token_times[0] - first.arrival)
    assert row["measured"] is False, "the first request arrives during warm-up"
    with open(out / "report" / "comparison.csv", newline="") as file:
        compared = list(csv.DictReader(file))
    e2e = next(r for r in compared if (r["metric"], r["at"]) == ("e2e_s", "mean"))
    assert float(e2e["change"]) == pytest.approx(-0.1)
    with open(out / "report" / "runs.csv", newline="") as file:
        runs = list(csv.DictReader(file))
    assert [r["run"] for r in runs][:2] == ["fcfs-2-1", "fcfs-2-2"]
    assert float(runs[0]["ttft_s.count"]) == 40
    assert parquet.read_table(out / "report" / "steps.parquet").num_rows == 8


def test_a_trace_has_lanes_in_which_requests_do_not_overlap(tmp_path, capsys):
    requests = [sample(0, arrival=0.0), sample(1, arrival=0.25), sample(2, arrival=2.0)]
    write_run(tmp_path / "a", requests, [step(0, 0.0, 1.0, kv_used=5, num_waiting=2)])
    main([str(tmp_path)])
    events = json.loads((tmp_path / "report" / "perfetto.json").read_text())["traceEvents"]
    slices = [each for each in events if each["ph"] == "X"]
    lanes = {each["args"]["request"]: each["tid"] for each in slices}
    assert lanes["r0"] == lanes["r2"] != lanes["r1"]
    assert [(e["name"], e["ts"], e["dur"]) for e in slices if e["args"]["request"] == "r0"] == [
        ("queued", 0.0, pytest.approx(0.25e6)),
        ("prefill", pytest.approx(0.25e6), pytest.approx(0.25e6)),
        ("decode", pytest.approx(0.5e6), pytest.approx(0.2e6)),
    ]
    counters = {each["name"]: each["args"] for each in events if each["ph"] == "C"}
    assert counters["KV blocks"]["used"] == 5
    assert counters["sequences"]["waiting"] == 2


def test_runs_without_a_request_and_cut_runs_are_reported_all_the_same(tmp_path, capsys):
    write_run(tmp_path / "a", [], seed=1)
    write_run(tmp_path / "b", [sample(0)], seed=2, finished=False)
    main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert "b (cut)" in shown
    assert "b: the run was cut" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["--warmup", "1"], "--warmup 1"), (["--confidence", "0"], "--confidence 0")]
)
def test_options_out_of_range_are_refused(two_rates, arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        main([str(two_rates), *arguments])


def test_the_pareto_front_is_what_no_other_beats():
    assert pareto_front([(1.0, 1.0), (2.0, 2.0), (1.5, 3.0), (2.0, 1.5), (0.5, 1.0)]) == {0, 3}
    assert pareto_front([(1.0, 1.0), (1.0, 1.0)]) == {0, 1}
