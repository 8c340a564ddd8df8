"""Cost models: what they learn, that more work never takes less time, and their files."""

import json
import random

import pytest

from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.registry import load_registry

NAMES = ("linear", "monotone")


def kind(name: str):
    return load_registry().get("cost_model", name)


def shape(**changes) -> StepShape:
    counts = dict.fromkeys(StepShape.__dataclass_fields__, 0)
    return StepShape(**(counts | changes))


def shapes(count=600, seed=0) -> list[StepShape]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        decodes = rng.randrange(0, 33)
        context = sum(rng.randrange(1, 500) for _ in range(decodes))
        chunk = rng.choice([0, 0, 0, rng.randrange(1, 400)]) or (not decodes)
        made.append(
            shape(
                num_tokens=decodes + chunk,
                prefill_tokens=chunk,
                decode_sequences=decodes,
                samples=decodes + bool(chunk),
                decode_context=context,
                max_decode_context=min(context, 499),
                prefill_pairs=chunk * (chunk + 1) // 2,
            )
        )
    return made


def truth(step: StepShape) -> float:
    return 0.008 + 3e-4 * step.num_tokens + 2e-4 * step.samples + 1e-6 * step.decode_context


def bent(step: StepShape) -> float:
    """The first rows are nearly free, later ones are not: memory bound, then compute bound."""
    return 0.010 + 0.001 * max(0, step.num_tokens - 16)


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_machine_is_learned_exactly_and_foretold_beyond_what_was_seen(name):
    model = kind(name).fit(config=kind(name).Config(), shapes=shapes(), seconds=list(map(truth, shapes())))
    for step in shapes(100, seed=1):
        assert model.seconds(step) == pytest.approx(truth(step), rel=0.01)
    far = shape(num_tokens=4000, prefill_tokens=4000, samples=1)
    assert model.seconds(far) == pytest.approx(truth(far), rel=0.1)


def test_only_the_monotone_model_follows_a_bend():
    errors = {}
    for name in NAMES:
        model = kind(name).fit(config=kind(name).Config(), shapes=shapes(), seconds=list(map(bent, shapes())))
        held_out = shapes(200, seed=2)
        errors[name] = sum(abs(model.seconds(s) / bent(s) - 1) for s in held_out) / len(held_out)
    assert errors["monotone"] < 0.05 < errors["linear"]


@pytest.mark.parametrize("name", NAMES)
def test_more_work_never_takes_less_time_whatever_was_measured(name):
    rng = random.Random(3)
    seconds = [0.01 * rng.random() + 0.001 for _ in shapes()]  # nothing to learn
    model = kind(name).fit(config=kind(name).Config(), shapes=shapes(), seconds=seconds)
    for step in shapes(50, seed=4):
        counts = {field: getattr(step, field) for field in StepShape.__dataclass_fields__}
        assert model.seconds(step) > 0
        for field in counts:
            more = StepShape(**(counts | {field: counts[field] + rng.randrange(1, 300)}))
            assert model.seconds(more) >= model.seconds(step)


@pytest.mark.parametrize("name", NAMES)
def test_hiccups_of_the_machine_do_not_bend_it(name):
    rng = random.Random(5)
    seconds = [truth(s) * (1.0 if rng.random() > 0.03 else 8.0) for s in shapes()]
    model = kind(name).fit(config=kind(name).Config(), shapes=shapes(), seconds=seconds)
    errors = [abs(model.seconds(s) / truth(s) - 1) for s in shapes(100, seed=6)]
    assert sum(errors) / len(errors) < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_what_was_learned_is_plain_data_that_makes_the_same_model(name, tmp_path):
    model = kind(name).fit(config=kind(name).Config(), shapes=shapes(), seconds=list(map(bent, shapes())))
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"cost_model": name, "parameters": model.parameters()}))
    again = kind(name)(config=kind(name).Config(path=str(path)))
    for step in shapes(20, seed=7):
        assert again.seconds(step) == model.seconds(step)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_none_is_named(name, tmp_path):
    with pytest.raises(UserError, match=rf"cost_model\.path=null: .*quire calibrate .* --cost-model {name}"):
        kind(name)(config=kind(name).Config())
    path = tmp_path / "model.json"
    for content, message in (
        ("{", "cannot be read"),
        ('{"cost_model": "other"}', rf"is a calibration of 'other'; must be one of cost_model={name}"),
        (json.dumps({"cost_model": name, "parameters": {}}), r"parameters\.base_seconds is missing"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            kind(name)(config=kind(name).Config(path=str(path)))


@pytest.mark.parametrize("name", NAMES)
def test_too_few_steps_are_refused(name):
    with pytest.raises(UserError, match="3 steps are too few to calibrate on; at least 50"):
        kind(name).fit(config=kind(name).Config(), shapes=shapes(3), seconds=[1.0] * 3)


def test_impossible_options_are_named():
    with pytest.raises(UserError, match=r"cost_model\.knots=0"):
        kind("monotone").Config(knots=0)
