"""Each logits processor against transformers or a loop over its definition."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_rows import make_rows
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from quire.engine.request import SamplingParams
from quire.errors import UserError
from quire_plugins.logits_processors.allowed_tokens import AllowedTokens, AllowedTokensConfig
from quire_plugins.logits_processors.bad_tokens import BadTokens, BadTokensConfig
from quire_plugins.logits_processors.logit_bias import LogitBias, LogitBiasConfig
from quire_plugins.logits_processors.min_tokens import MinTokens, MinTokensConfig
from quire_plugins.logits_processors.penalties import Penalties, PenaltiesConfig

VOCAB = 23
ALL = (
    AllowedTokens(config=AllowedTokensConfig()),
    BadTokens(config=BadTokensConfig()),
    LogitBias(config=LogitBiasConfig()),
    MinTokens(config=MinTokensConfig()),
    Penalties(config=PenaltiesConfig()),
)
ALLOWED, BAD, BIAS, MIN, PENALTIES = ALL
LOW = -math.inf


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


def check(params: SamplingParams) -> None:
    for processor in ALL:
        processor.check(params, VOCAB)


def test_repetition_penalty_is_that_of_transformers():
    params = [SamplingParams(repetition_penalty=penalty) for penalty in (1.3, 0.7, 5.0)]
    histories = [[1, 2, 2, 7, 22, 0], [3], [5, 5, 5, 5, 4]]
    before_RV = logits(3)
    after_RV = before_RV.clone()
    PENALTIES.apply(after_RV, make_rows(params, histories=histories, num_prompt=[4, 1, 1]))
    for r, (p, history) in enumerate(zip(params, histories, strict=True)):
        expected_1V = RepetitionPenaltyLogitsProcessor(p.repetition_penalty)(
            torch.tensor([history]), before_RV[r : r + 1].clone()
        )
        assert torch.equal(after_RV[r : r + 1], expected_1V)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_penalties_follow_their_definitions_in_any_batch(data):
    penalty = st.sampled_from([0.0, 0.5, -2.0])
    params = data.draw(
        st.lists(
            st.builds(
                SamplingParams,
                repetition_penalty=st.sampled_from([1.0, 1.2, 0.5]),
                presence_penalty=penalty,
                frequency_penalty=penalty,
            ).filter(PENALTIES.wants),
            min_size=1,
            max_size=5,
        )
    )
    histories = [data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30)) for _ in params]
    num_prompt = [data.draw(st.integers(1, len(history))) for history in histories]
    before_RV = logits(len(params), seed=1)
    after_RV = before_RV.clone()
    PENALTIES.apply(after_RV, make_rows(params, histories=histories, num_prompt=num_prompt))
    for r, (p, history) in enumerate(zip(params, histories, strict=True)):
        outputs = Counter(history[num_prompt[r] :])
        for token in range(VOCAB):
            value = before_RV[r, token].item()
            if token in history:
                value = value * p.repetition_penalty if value < 0 else value / p.repetition_penalty
            value -= p.frequency_penalty * outputs[token] + p.presence_penalty * (token in outputs)
            assert after_RV[r, token].item() == pytest.approx(value, abs=1e-5)


def test_logit_bias_is_added():
    params = [SamplingParams(logit_bias={3: 1.5, 0: -100.0}), SamplingParams(logit_bias={22: 2})]
    before_RV = logits(2)
    after_RV = before_RV.clone()
    BIAS.apply(after_RV, make_rows(params))
    expected_RV = before_RV.clone()
    expected_RV[0, 3] += 1.5
    expected_RV[0, 0] -= 100
    expected_RV[1, 22] += 2
    assert torch.equal(after_RV, expected_RV)


def test_only_allowed_tokens_keep_their_logits():
    params = [SamplingParams(allowed_token_ids=(4, 4, 9)), SamplingParams(allowed_token_ids=(0,))]
    before_RV = logits(2)
    after_RV = before_RV.clone()
    ALLOWED.apply(after_RV, make_rows(params))
    for r, p in enumerate(params):
        for token in range(VOCAB):
            kept = token in p.allowed_token_ids
            assert after_RV[r, token].item() == (before_RV[r, token].item() if kept else LOW)


def test_bad_tokens_lose_their_logits():
    params = [SamplingParams(bad_token_ids=(1, 2)), SamplingParams(bad_token_ids=(22,))]
    before_RV = logits(2)
    after_RV = before_RV.clone()
    BAD.apply(after_RV, make_rows(params))
    for r, p in enumerate(params):
        for token in range(VOCAB):
            assert after_RV[r, token].item() == (LOW if token in p.bad_token_ids else before_RV[r, token])


def test_ends_are_masked_until_min_tokens_are_there():
    params = [SamplingParams(min_tokens=3, stop_token_ids=(8,))] * 4
    histories = [[1] * 5, [1] * 7, [1] * 8, [1] * 9]
    after_RV = logits(4)
    before_RV = after_RV.clone()
    MIN.apply(after_RV, make_rows(params, histories=histories, num_prompt=[5] * 4, eos_token_ids=(2, 6)))
    masked = (after_RV == LOW).nonzero().tolist()
    assert masked == [[r, token] for r in (0, 1) for token in (2, 6, 8)]
    kept = after_RV > LOW
    assert torch.equal(after_RV[kept], before_RV[kept])


def test_only_rows_with_parameters_want_a_processor():
    assert not any(processor.wants(SamplingParams()) for processor in ALL)
    wanting = {
        BAD: SamplingParams(bad_token_ids=(1,)),
        ALLOWED: SamplingParams(allowed_token_ids=(1,)),
        BIAS: SamplingParams(logit_bias={1: 1.0}),
        MIN: SamplingParams(min_tokens=1),
        PENALTIES: SamplingParams(repetition_penalty=1.1),
    }
    for wanted, params in wanting.items():
        assert [processor for processor in ALL if processor.wants(params)] == [wanted]
    assert PENALTIES.wants(SamplingParams(presence_penalty=1))
    assert PENALTIES.wants(SamplingParams(frequency_penalty=-1))


def test_masks_come_after_penalties_and_biases():
    assert max(PENALTIES.rank, BIAS.rank) < min(ALLOWED.rank, BAD.rank, MIN.rank)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"bad_token_ids": (3, 23)},
            "bad_token_ids: token id 23 is outside the vocabulary, must be in 0..22",
        ),
        ({"allowed_token_ids": (-1,)}, "allowed_token_ids: token id -1 is outside"),
        ({"logit_bias": {99: 1.0}}, "logit_bias: token id 99 is outside"),
        ({"logit_bias": {1: math.nan}}, r"logit_bias\[1\]=nan: must be a finite number"),
        ({"logit_bias": {1: -math.inf}}, r"logit_bias\[1\]=-inf: must be a finite number"),
        ({"min_tokens": 1, "stop_token_ids": (50,)}, "stop_token_ids: token id 50 is outside"),
        ({"bad_token_ids": tuple(range(VOCAB))}, "bad_token_ids: .*must leave at least one"),
        ({"allowed_token_ids": (1, 2), "bad_token_ids": (2, 1, 0)}, "allowed_token_ids: .*bad_token_ids"),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(params, message):
    sampling = SamplingParams(**params)
    with pytest.raises(UserError, match=message) as caught:
        check(sampling)
    assert "\n" not in str(caught.value)


def test_possible_parameters_pass():
    params = SamplingParams(
        bad_token_ids=(0, 22),
        allowed_token_ids=(0, 1),
        logit_bias={22: -5.0},
        min_tokens=2,
        stop_token_ids=(4,),
    )
    check(params)


def test_importing_the_plugins_imports_no_torch():
    modules = ", ".join(
        {type(processor).__module__ for processor in ALL} | {"quire_plugins.samplers.standard"}
    )
    code = f"import sys, {modules}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
