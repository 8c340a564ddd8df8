"""`quire calibrate`: from the steps of runs to a cost model's file, and what it refuses."""

import dataclasses
import json
import sys

import pytest

from quire.cli.calibrate import main
from quire.engine.records import StepRecord
from quire.errors import UserError
from quire.jobs.calibration import durations, read_steps


def step(index: int, *, start: float, end: float, seconds: float, waiting=1, tokens=8) -> StepRecord:
    return StepRecord(
        index=index,
        start=start,
        end=end,
        seconds=seconds,
        schedule_seconds=0.0,
        num_tokens=tokens,
        num_sequences=tokens,
        prefill_tokens=0,
        decode_sequences=tokens,
        context_tokens=tokens,
        max_context=1,
        num_running=0,
        num_waiting=waiting,
        num_preempted=0,
        kv_used=1,
        kv_cached=0,
        kv_total=2,
        samples=tokens,
        decode_context=tokens,
        max_decode_context=1,
    )


def write_run(directory, steps) -> None:
    directory.mkdir()
    lines = [json.dumps(dataclasses.asdict(each)) for each in steps]
    (directory / "steps.jsonl").write_text("\n".join(lines) + "\n")


def steps_of(count: int) -> list[StepRecord]:
    """Each takes 5 ms and 1 ms a token on the executor, and the host 2 ms more."""
    made, now = [], 0.0
    for index in range(count):
        tokens = 1 + index * 7 % 16
        seconds = 0.005 + 0.001 * tokens
        made.append(step(index, start=now, end=now + seconds + 0.002, seconds=seconds, tokens=tokens))
        now += seconds + 0.002
    return made


def test_the_hosts_time_counts_where_no_step_hides_it():
    steps = [
        step(0, start=0.0, end=1.2, seconds=1.0),
        step(1, start=0.9, end=2.3, seconds=1.0),  # submitted early: 1.1 s after the commit before
        step(2, start=1.9, end=3.5, seconds=1.0, waiting=0),
        step(3, start=9.0, end=10.3, seconds=1.0),  # nothing to do between: from its submission
    ]
    assert durations(steps) == pytest.approx([1.0 + (0.2 + 0.1 + 0.2 + 0.3) / 4] * 4)
    assert durations([]) == []


def test_a_model_is_learned_tested_and_written(tmp_path, capsys):
    write_run(tmp_path / "a", steps_of(150))
    write_run(tmp_path / "b", steps_of(90))
    output = tmp_path / "model.json"
    main([str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(output), "--cost-model", "monotone"])
    content = json.loads(output.read_text())
    assert (content["cost_model"], content["steps"]) == ("monotone", 240)
    assert content["held_out_mape"] < 0.001
    assert "240 steps, mean error 0.0% on held-out steps" in capsys.readouterr().out
    from quire_plugins.cost_models.monotone import MonotoneConfig, MonotoneCost

    model = MonotoneCost(config=MonotoneConfig(path=str(output)))
    from quire.jobs.calibration import shape_of

    for each in steps_of(16):
        assert model.seconds(shape_of(each)) == pytest.approx(each.seconds + 0.002, rel=1e-3)


def test_a_line_cut_short_is_left_out(tmp_path):
    write_run(tmp_path / "a", steps_of(3))
    with open(tmp_path / "a" / "steps.jsonl", "a") as file:
        file.write('{"index": 3, "sta')
    assert [each.index for each in read_steps(tmp_path / "a")] == [0, 1, 2]


def test_what_cannot_be_learned_from_is_named(tmp_path):
    output = ["-o", str(tmp_path / "model.json")]
    with pytest.raises(UserError, match=r"nowhere/steps\.jsonl: cannot be read: No such file"):
        main([str(tmp_path / "nowhere"), *output])
    write_run(tmp_path / "short", steps_of(9))
    with pytest.raises(UserError, match="steps are too few to calibrate on"):
        main([str(tmp_path / "short"), *output])
    with pytest.raises(UserError, match=r"there is no cost_model 'linaer' \(did you mean 'linear'"):
        main([str(tmp_path / "short"), *output, "--cost-model", "linaer"])
    (tmp_path / "short" / "steps.jsonl").write_text('{"index": 0}\n')
    with pytest.raises(UserError, match=r"steps\.jsonl, line 1: [a-z_]+ is missing"):
        main([str(tmp_path / "short"), *output])
    (tmp_path / "short" / "steps.jsonl").write_text("[]\nnot json\n")
    with pytest.raises(UserError, match=r"steps\.jsonl, line 1: "):
        main([str(tmp_path / "short"), *output])


def test_it_is_a_command_that_imports_no_torch(tmp_path, monkeypatch):
    from quire.cli.program import COMMANDS

    assert COMMANDS["calibrate"] == "quire.cli.calibrate"
    assert "quire.cli.calibrate" in sys.modules
