"""Reading runs back: whole ones, killed ones, and files that are not those of a run."""

import pytest
from recordings import sample, step, write_run

from quire.errors import UserError
from quire.report.recorded import find_runs, read_run


def test_times_count_from_the_first_event_and_requests_come_by_arrival(tmp_path):
    requests = [sample(1, arrival=12.0), sample(0, arrival=11.0, preempted=[11.5], resumed=[11.75])]
    write_run(tmp_path / "a", requests, [step(0, 10.0, 11.0)])
    run = read_run(tmp_path / "a", name="a")
    assert [each.arrival for each in run.requests] == pytest.approx([1.0, 2.0])
    assert (run.requests[0].preempted, run.requests[0].resumed) == ([1.5], [1.75])
    assert (run.steps[0].start, run.steps[0].end) == (0.0, 1.0)
    assert run.cut is None


def test_a_killed_run_is_summed_up_from_its_records_and_its_half_line_skipped(tmp_path):
    write_run(tmp_path / "a", [sample(0), sample(1)], [step(0, 0.0, 1.0)], finished=False)
    with open(tmp_path / "a" / "requests.jsonl", "a") as file:
        file.write('{"request_id": "r2", "sam')
    run = read_run(tmp_path / "a", name="a")
    assert "the run was cut" in run.cut
    assert run.notes == ["requests.jsonl, line 3: cut short, skipped"]
    assert (run.summary["completed"], run.summary["steps"]) == (2, 1)


def test_a_failed_run_says_so(tmp_path):
    write_run(tmp_path / "a", [sample(0)], error="RuntimeError: no disk")
    assert read_run(tmp_path / "a", name="a").cut == "the run failed: RuntimeError: no disk"


@pytest.mark.parametrize("line", ["nonsense", '{"request_id": "r0"}', "[]"])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    write_run(tmp_path / "a", [sample(0)])
    path = tmp_path / "a" / "requests.jsonl"
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(UserError, match=r"requests\.jsonl, line 2: "):
        read_run(tmp_path / "a", name="a")


def test_runs_are_found_in_natural_order_and_cells_without_a_record_too(tmp_path):
    for name in ("10", "9", "seed1-rate2"):
        write_run(tmp_path / name, [sample(0)])
    write_run(tmp_path / "12", [sample(0)])
    (tmp_path / "12" / "requests.jsonl").unlink()
    (tmp_path / "11" / ".hydra").mkdir(parents=True)
    (tmp_path / "11" / ".hydra" / "overrides.yaml").write_text("[]")
    runs, empty = find_runs(tmp_path)
    assert [each.name for each in runs] == ["9", "10", "seed1-rate2"]
    assert [each.name for each in empty] == ["11", "12"], "12 ended before its first step"


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no recorded run"):
        find_runs(tmp_path)
    with pytest.raises(UserError, match="is no directory"):
        find_runs(tmp_path / "missing")
