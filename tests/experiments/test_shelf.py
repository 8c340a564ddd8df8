"""Studies of the shelf: the cheapest end to end with few requests; the plain LRU and claims by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quire.engine.plan import Row
from quire.engine.shape import StepShape
from quire.report.marked_page import rewritten
from quire_plugins.cost_models.linear import LinearConfig, LinearCost

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("study", ["orca", "past_future", "sarathi"])
def test_a_study_runs_and_writes_what_it_found(study: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRACES"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", f"experiments.shelf.{study}.measure"),
            *("--requests", "120", "--seeds", "2", "--jobs", "1", "--output", str(tmp_path)),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr  # with so few requests a claim may fail, but never break
    results = json.loads((tmp_path / study / "results.json").read_text())
    assert (tmp_path / study / "results.png").read_bytes().startswith(b"\x89PNG")
    assert results["command"] == f"python -m experiments.shelf.{study}.measure --requests 120 --seeds 2"
    assert all(len(claim["seeds"]) == 2 for claim in results["claims"])
    assert any(claim["control"] for claim in results["claims"])
    assert done.returncode == (not all(claim["holds"] for claim in results["claims"]))


@pytest.fixture
def root_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("root_on_path")
def test_the_plain_lru_finds_what_one_finds_by_hand() -> None:
    from experiments.shelf.lab.lru import replay

    a, b, c, d = b"a", b"b", b"c", b"d"
    prompts = [(10, [a, b]), (9, [a, b]), (4, [c]), (8, [a, b]), (5, [d]), (9, [a, b])]
    # blocks of 4; both of the second; of the fourth only the first, as its last token is computed
    assert replay(prompts, block_tokens=4, capacity=3) == (8 + 4 + 8) / 45
    # c and d push out b, the end of the prompt, before a
    assert replay(prompts, block_tokens=4, capacity=2) == (8 + 4 + 4) / 45


@pytest.mark.usefixtures("root_on_path")
def test_the_time_that_a_prefix_spares_is_what_the_accelerator_takes_for_it() -> None:
    from experiments.shelf.eviction.measure import _ACCELERATOR, POLICIES, prefill_seconds
    from experiments.shelf.lab import BLOCK_TOKENS

    parameters = json.loads(_ACCELERATOR.read_text(encoding="utf-8"))["parameters"]
    accelerator = LinearCost(config=LinearConfig(), parameters=parameters)

    def seconds(start: int, count: int) -> float:
        row = Row(
            sequence_id="",
            slot=0,
            start=start,
            count=count,
            samples=False,
            first_block=(0,),
            new_blocks=((),),
        )
        return accelerator.seconds(StepShape.of([row]))

    base = parameters["base_seconds"]
    assert prefill_seconds(40_000) == pytest.approx(seconds(0, 40_000) - base)
    blocks = [seconds(depth * BLOCK_TOKENS, BLOCK_TOKENS) - base for depth in (0, 100)]
    depth_cost = float(POLICIES["cost_aware"][1].removeprefix("eviction.depth_cost="))
    assert blocks[1] / blocks[0] == pytest.approx(1 + 100 * depth_cost, rel=0.01)


@pytest.mark.usefixtures("root_on_path")
def test_a_claim_holds_within_its_bounds_only() -> None:
    from experiments.shelf.lab.claims import Claim

    assert Claim(what="", values=[1.0, 1.5], at_least=1.25).holds
    assert not Claim(what="", values=[1.0, 1.25], at_least=1.25).holds
    assert not Claim(what="", values=[0.9, 1.3], at_least=0.95, at_most=1.05).holds
    low, high = Claim(what="", values=[1.0, 2.0, 3.0]).interval()
    assert 1.0 <= low < 2.0 < high <= 3.0


@pytest.mark.usefixtures("root_on_path")
def test_the_table_says_what_the_results_say() -> None:
    from experiments.shelf.table import README, STUDIES, table

    folders = {path.parent.name for path in (ROOT / "experiments" / "shelf").glob("*/measure.py")}
    assert set(STUDIES) == folders
    shown = README.read_text(encoding="utf-8")
    assert shown == rewritten(shown, {"the shelf": table()}), (
        "python -m experiments.shelf.table writes it anew"
    )


@pytest.mark.usefixtures("root_on_path")
def test_a_claim_is_shown_with_what_was_due() -> None:
    from experiments.shelf.lab.claims import Claim
    from experiments.shelf.table import _line

    failing = Claim(what="gain", values=[1.0, 1.0], at_least=1.25)
    assert _line(failing.to_dict()) == "gain: 1, **fails**: due at least 1.25"
    tokens = Claim(what="tokens", values=[1000.4, 3000.4], at_most=4000, control=True)
    assert _line(tokens.to_dict()) == "control: tokens: 2,000 [1,000, 3,000], due at most 4,000"
