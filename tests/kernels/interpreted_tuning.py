"""Tuning under the interpreter: which tile wins, what is written, and that launches then have it."""

import pytest
import torch

from quire_kernels.triton import tuned
from quire_kernels.triton.groupwise_kernel import launch_groupwise
from quire_kernels.triton.launch import ARCHITECTURES
from quire_kernels.triton.tuned import read_table, trying, write_tile
from quire_kernels.triton.tuning import TuningCase, tune, tuning_cases

H100 = ARCHITECTURES["sm_90"]
CASE = "w4-x2-g64-t16"
CASES = list(tuning_cases(torch.device("cpu"), small=True))


def launched():
    return launch_groupwise(H100, itemsize=2, bits=4, group=64, tokens=1, experts=None)


@pytest.fixture(autouse=True)
def _tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "TABLES", tmp_path / "tuned")
    tuned.forget()
    yield
    monkeypatch.undo()
    tuned.forget()


@pytest.mark.parametrize("family", ["attention", "merge", "mla", "groupwise", "grouped", "fp8"])
def test_the_calls_of_a_family_can_be_timed(family):
    case = next(case for case in CASES if case.family == family)
    case.make()()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.case}")
def test_a_launch_function_knows_the_case_by_that_name(case, monkeypatch):
    """Otherwise what is measured would be one tile again and again."""
    asked = set()
    real = tuned._tried

    class Spy(dict):
        def get(self, key, default=None):
            asked.add(key)
            return real.get(key, default)

    call = case.make()
    monkeypatch.setattr(tuned, "_tried", Spy())
    tuned.forget()
    monkeypatch.setattr("triton.runtime.interpreter.GridExecutor.__call__", lambda *_, **__: None)
    call()
    assert (case.family, case.case) in asked


def case_of(seconds):
    """A case whose call takes what `seconds` says of the tile that launches then have."""

    def call():
        launch = launched()
        return seconds(launch.constants["TILE_O"], launch.num_warps, launch.num_stages)

    candidates = tuple({"o": o, "warps": 8, "stages": 3} for o in (32, 64, 128))
    return TuningCase(family="groupwise", case=CASE, candidates=candidates, make=lambda: call)


def test_the_fastest_candidate_wins_and_one_that_cannot_run_is_counted():
    def seconds(outputs, warps, stages):
        if outputs == 32:
            raise RuntimeError("out of resource: shared memory")
        return {(64, 4): 2.0, (64, 8): 1.5, (128, 8): 1.0}[outputs, warps]

    found = tune(case_of(seconds), timer=lambda call: call())
    assert found.tile == {"o": 128, "warps": 8, "stages": 3}
    assert (found.default_seconds, found.seconds, found.refused) == (2.0, 1.0, 1)


def test_a_gain_within_the_noise_changes_nothing():
    found = tune(
        case_of(lambda outputs, warps, stages: 0.99 if warps == 8 else 1.0), timer=lambda call: call()
    )
    assert (found.tile, found.seconds) == (None, 1.0)


def test_what_is_written_is_what_launches_have():
    default = launched()
    write_tile("sm_90", "groupwise", CASE, {"o": 128, "warps": 8, "stages": 2}, origin="a test")
    launch = launched()
    assert (launch.constants["TILE_O"], launch.num_warps, launch.num_stages) == (128, 8, 2)
    assert launch.constants["TILE_T"] == default.constants["TILE_T"]
    with trying("groupwise", CASE, {"o": 32, "warps": 4, "stages": 3}):
        assert launched().constants["TILE_O"] == 32
    assert launched() == launch
    assert read_table("sm_80") == {}
    write_tile("sm_90", "groupwise", CASE, None, origin="a test")
    assert launched() == default
