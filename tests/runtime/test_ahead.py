"""Steps launched before the host knows the tokens of the step before come to the same."""

from functools import partial

import pytest
from deferred import AheadExecutor, check_same, make_engine, results

from quire.engine.request import Request, SamplingParams
from quire.runtime.runner import Runner
from quire.runtime.token_draw import TokenDraw

AHEAD = {"executor": partial(AheadExecutor, capture=None)}
ARMS = {
    "plain": (),
    "chunks": ("engine.max_step_tokens=11", "engine.max_sequences=5"),
    "little memory": ("engine.block_size=16", "engine.kv_bytes=150KiB"),
    "no overlap": ("engine.overlap=false",),
}


def asked():
    """Greedy and drawn, short and long; some with processors, log probabilities or several samples."""
    special = {2: {"logprobs": 2, "prompt_logprobs": 1}, 3: {"repetition_penalty": 1.3}, 4: {"n": 3}}
    return [
        Request(
            id=f"r{i}",
            prompt_token_ids=tuple(range(3 + i, 8 + 9 * i)),
            sampling=SamplingParams(
                temperature=0.0 if i % 2 else 1.0, max_tokens=5 + 4 * i, seed=i, **special.get(i, {})
            ),
        )
        for i in range(7)
    ]


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_tokens_and_log_probabilities_are_the_same(checkpoint, arm):
    arm = ("attention=sdpa", *arm)
    expected = results(make_engine(checkpoint, *arm), asked())
    check_same(results(make_engine(checkpoint, *arm, replaced=AHEAD), asked()), expected)


def test_a_step_is_launched_while_the_host_does_not_know_the_token_before(checkpoint, monkeypatch):
    """Otherwise the test above shows nothing."""
    unknown = []
    known = Runner._known

    def noticing(self, batch):
        unknown.append(int((batch.token_ids_T < 0).sum()))
        return known(self, batch)

    monkeypatch.setattr(Runner, "_known", noticing)
    request = Request(
        id="r", prompt_token_ids=(5, 6, 7), sampling=SamplingParams(temperature=0.0, max_tokens=9)
    )
    results(make_engine(checkpoint, "attention=sdpa", replaced=AHEAD), [request])
    assert unknown == [1] * 8


def test_a_sick_row_fails_by_name_and_the_others_go_on(checkpoint, monkeypatch):
    draw = TokenDraw.tokens

    def poisoned(self, rows, logits_RV, *rest):
        for r, row in enumerate(rows):
            if row.sequence_id == "r1" and row.start > 15:
                logits_RV[r, 5] = float("nan")
        return draw(self, rows, logits_RV, *rest)

    expected = results(make_engine(checkpoint, "attention=sdpa"), asked())
    monkeypatch.setattr(TokenDraw, "tokens", poisoned)
    found = results(make_engine(checkpoint, "attention=sdpa", replaced=AHEAD), asked())
    sick = found.pop(("r1", 0))
    assert sick["end"][1] == "r1: at position 17 the logits are not finite"
    expected.pop(("r1", 0))
    check_same(found, expected)
