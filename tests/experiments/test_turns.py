"""Runs that take turns: who goes on when, and how long a step that was measured three times takes."""

import json
import statistics
import sys
from contextlib import closing
from pathlib import Path

import pytest

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.jobs.calibration import read_steps
from quire.registry import load_registry
from quire.run import Run

STUDY = Path(__file__).parents[2] / "experiments" / "simulator_fidelity"


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    import turns

    yield turns
    for name in ("turns", "repeated"):
        sys.modules.pop(name, None)


def test_players_go_on_one_at_a_time_and_end_together(turns):
    seen: list[str] = []
    players: dict[str, object] = {}

    def work(name: str, times: int):
        def play() -> None:
            for _ in range(times):
                seen.append(name)
                players[name].hand_over()

        return play, lambda: seen.count(name) / times

    players |= {name: turns.Player(*work(name, times)) for name, times in (("a", 4), ("b", 1), ("c", 2))}
    turns.play(players.values())
    assert "".join(seen) == "abcaaca", "b waits from its only turn on, c for a"


def test_what_a_player_raises_is_raised_where_turns_are_given(turns):
    def fail() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        turns.play([turns.Player(fail, lambda: 0.0)])


def test_a_clock_goes_on_in_its_turns_and_is_moved(turns):
    clock = turns.TurnClock()
    clock.stop()
    before = clock.now()
    clock.move(2.5)
    clock.sleep_until(before + 4.0)
    clock.sleep_until(before + 1.0)
    assert clock.now() == before + 4.0
    clock.go_on()
    assert clock.now() >= before + 4.0


COMMON = [
    *("model=demo", "engine.threads=1", "engine.overlap=false", "engine.kv_bytes=16MiB"),
    *("workload=synthetic", "workload.requests=6", "workload.prompt_mean=40", "workload.output_mean=8"),
    *("workload.arrivals=poisson", "workload.rate=200"),
]


def test_steps_take_the_median_of_their_measurements(turns, tmp_path):
    names = ("fcfs", "static")
    turns.record({tmp_path / name: [*COMMON, f"scheduler={name}", "executor=repeated"] for name in names})
    for name in names:
        steps = read_steps(tmp_path / name)
        measured = json.loads((tmp_path / name / "measured.json").read_text())
        assert [len(each) for each in measured] == [3] * len(steps)
        for step, each in zip(steps, measured, strict=True):
            median = statistics.median(each)
            assert step.seconds <= median, "the executor's own part of it"
            assert median <= (step.end - step.start) * (1 + 1e-9)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert (summary["interrupted"], summary["requests"]) == (False, 6)


def test_a_step_computed_again_draws_the_same_tokens(turns, tmp_path):
    registry = load_registry(extra=(turns.REPEATED,))

    def generate(executor: str) -> list[int]:
        config = compose([*COMMON, f"executor={executor}"], registry)
        run = Run(config=config, registry=registry, directory=tmp_path)
        tokens: list[int] = []
        with closing(run.engine(clock=turns.TurnClock(), with_text=False)) as engine:
            for number, length in enumerate((3, 70, 150)):
                prompt = tuple(range(10 + number, 10 + number + length))
                sampling = SamplingParams(temperature=0.8, seed=number, max_tokens=12, ignore_eos=True)
                engine.add(Request(id=str(number), prompt_token_ids=prompt, sampling=sampling))
            while engine.has_work:
                for output in engine.step():
                    tokens += output.token_ids
        return tokens

    assert generate("repeated") == generate("local")
