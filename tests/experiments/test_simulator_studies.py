"""The rules of the simulator's studies: which schedulers differ, what counts as kept, what is read."""

import importlib.util
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def study(name: str):
    spec = importlib.util.spec_from_file_location(f"study_{name}", EXPERIMENTS / name / "measure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fidelity():
    return study("simulator_fidelity")


@pytest.fixture(scope="module")
def speed():
    return study("simulator_speed")


def found(fidelity, real: dict[str, list[float]], simulated: dict[str, float]) -> dict:
    """Runs of the four schedulers at both loads, alike in every measure; errors as small as can be."""
    runs = {}
    for load in fidelity.RATES:
        for name in fidelity.SCHEDULERS:
            runs[f"{load}_{name}"] = {
                "step_mape": 0.09,
                "e2e_error": {"p50": 0.05, "p90": -0.02},
                "rounds": [
                    {
                        "compared": {
                            "real": dict.fromkeys(fidelity.COMPARED, value),
                            "simulated": dict.fromkeys(fidelity.COMPARED, simulated[name]),
                        }
                    }
                    for value in real[name]
                ],
            }
    return runs


REAL = {
    "fcfs": [2.0, 2.1, 1.9],
    "sarathi": [1.9, 2.2, 2.0],
    "sjf": [1.0, 1.05, 0.95],
    "static": [4.0, 4.4, 3.9],
}


def test_only_pairs_that_repeats_tell_apart_have_an_order(fidelity):
    """Of the six pairs all but fcfs and sarathi, whose difference changes its sign from round to round."""
    runs = found(fidelity, REAL, {"fcfs": 2.0, "sarathi": 1.0, "sjf": 0.9, "static": 5.0})
    ranked = fidelity.rankings(runs)
    assert len(ranked) == 36
    unclear = {tuple(row["pair"]) for row in ranked if not row["told_apart"]}
    assert unclear == {("fcfs", "sarathi")}
    verdict = fidelity.gates(runs, ranked)
    assert verdict["order_preserved"] == {"told_apart": 30, "of": 36, "reversed": [], "holds": True}
    assert verdict["held_out_step_mape_at_most_0.10"] == {"found": 0.09, "holds": True}
    assert verdict["e2e_p50_p90_error_at_most_0.10"] == {"found": 0.05, "holds": True}


def test_an_order_that_the_simulation_reverses_is_named(fidelity):
    runs = found(fidelity, REAL, {"fcfs": 2.0, "sarathi": 2.0, "sjf": 2.5, "static": 5.0})
    verdict = fidelity.gates(runs, fidelity.rankings(runs))["order_preserved"]
    assert not verdict["holds"]
    assert "heavy, fcfs and sjf: e2e_mean" in verdict["reversed"]


def test_runs_that_nothing_tells_apart_rank_nothing(fidelity):
    alike = {name: [1.0, 1.5, 0.8] for name in REAL}
    runs = found(fidelity, alike, dict.fromkeys(REAL, 1.0))
    assert not fidelity.gates(runs, fidelity.rankings(runs))["order_preserved"]["holds"]


def test_lines_of_a_file_are_counted_as_it_grows(speed, tmp_path):
    path = tmp_path / "requests.jsonl"
    counted = at = 0
    for text, lines in (("", 0), ("a\nb", 1), ("\n\n", 3)):
        with path.open("a") as file:
            file.write(text)
        counted, at = speed.count_lines(path, counted, at)
        assert counted == lines


def test_a_million_requests_are_what_the_gate_asks_for(speed):
    results = {
        "speed": {"workloads": [{"times_real_time": 230.0}, {"times_real_time": 60.0}]},
        "memory": {"requests": 100_000, "growth": 1.01},
    }
    verdict = speed.gates(results)
    assert verdict["times_real_time_at_least_200"]["holds"]
    assert not verdict["a_million_requests_in_bounded_memory"]["holds"]
    results["memory"]["requests"] = 1_000_000
    assert speed.gates(results)["a_million_requests_in_bounded_memory"]["holds"]
