"""What every cost model must do, as tests that a model's own tests inherit."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from quire.engine.shape import StepShape
from quire.errors import UserError
from quire.interfaces.cost_model import CostModel


class CostModelSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(CostModelSuite):
        def fit(self, shapes, seconds) -> CostModel:
            return Mine.fit(config=MineConfig(), shapes=shapes, seconds=seconds)

        def restore(self, parameters) -> CostModel:
            return Mine(config=MineConfig(), parameters=parameters)
    """

    error: float = 0.1
    """Of what a machine takes whose time is linear in the counts, the share by which the model may be wrong,
    on average."""

    @abstractmethod
    def fit(self, shapes: Sequence[StepShape], seconds: Sequence[float]) -> CostModel:
        """The model of these steps."""

    @abstractmethod
    def restore(self, parameters: Mapping[str, Any]) -> CostModel:
        """A model that has learned these already."""

    def test_it_learns(self) -> None:
        model = self._fitted()
        held_out = _shapes(100, seed=1)
        errors = [abs(model.seconds(shape) / _truth(shape) - 1) for shape in held_out]
        assert sum(errors) / len(errors) <= self.error, f"off by {sum(errors) / len(errors):.0%} on average"

    def test_every_step_takes_time(self) -> None:
        model = self._fitted()
        nothing = dict.fromkeys(StepShape.__dataclass_fields__, 0)
        for shape in (
            *_shapes(100, seed=2),
            StepShape(**{**nothing, "num_tokens": 1, "prefill_tokens": 1, "prefill_pairs": 1}),
            StepShape(**{**nothing, "num_tokens": 10**6, "prefill_tokens": 10**6, "prefill_pairs": 10**12}),
        ):
            assert model.seconds(shape) > 0, f"{shape} takes {model.seconds(shape)} s"

    def test_more_work_never_takes_less_time(self) -> None:
        model, draw = self._fitted(), random.Random(3)
        for shape in _shapes(50, seed=3):
            counts = asdict(shape)
            for name, count in counts.items():
                more = StepShape(**{**counts, name: count + draw.randrange(1, 300)})
                assert model.seconds(more) >= model.seconds(shape), f"more {name} takes less time: {shape}"

    def test_what_it_learned_is_json_that_makes_the_same_model(self) -> None:
        model = self._fitted()
        again = self.restore(json.loads(json.dumps(model.parameters())))
        for shape in _shapes(50, seed=4):
            assert again.seconds(shape) == model.seconds(shape)

    def test_too_few_steps_are_refused(self) -> None:
        with pytest.raises(UserError):
            self.fit(_shapes(2, seed=5), [0.01, 0.02])

    def _fitted(self) -> CostModel:
        shapes = _shapes(600, seed=0)
        return self.fit(shapes, list(map(_truth, shapes)))


def _truth(shape: StepShape) -> float:
    return 0.008 + 3e-4 * shape.num_tokens + 2e-4 * shape.samples + 1e-6 * shape.decode_context


def _shapes(count: int, seed: int) -> list[StepShape]:
    """Steps of up to 32 decodes, some with a chunk of a prompt."""
    draw = random.Random(seed)
    shapes: list[StepShape] = []
    for _ in range(count):
        contexts = [draw.randrange(1, 500) for _ in range(draw.randrange(33))]
        chunk = draw.choice([0, 0, 0, draw.randrange(1, 400)]) or (not contexts)
        shapes.append(
            StepShape(
                num_tokens=len(contexts) + chunk,
                prefill_tokens=int(chunk),
                decode_sequences=len(contexts),
                samples=len(contexts) + bool(chunk),
                decode_context=sum(contexts),
                max_decode_context=max(contexts, default=0),
                prefill_pairs=chunk * (chunk + 1) // 2,
            )
        )
    return shapes
