"""Every predictor there is keeps the contract."""

import json
import random
from pathlib import Path

import pytest

from quire.interfaces import LengthPredictor
from quire.testing import PredictorSuite
from quire_plugins.predictors.history import History, HistoryConfig
from quire_plugins.predictors.learned import Learned, LearnedConfig
from quire_plugins.predictors.noisy import Noisy, NoisyConfig
from quire_plugins.predictors.oracle import Oracle, OracleConfig


class TestOracle(PredictorSuite):
    def make(self, seed: int) -> LengthPredictor:
        return Oracle(config=OracleConfig(), seed=seed)


class TestNoisy(PredictorSuite):
    def make(self, seed: int) -> LengthPredictor:
        return Noisy(config=NoisyConfig(correlation=0.5), seed=seed)


class TestHistory(PredictorSuite):
    def make(self, seed: int) -> LengthPredictor:
        return History(config=HistoryConfig(per_tenant=True), seed=seed)


class TestLearned(PredictorSuite):
    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path) -> None:
        draw = random.Random(0)
        self.log = tmp_path / "requests.jsonl"
        lines = [
            {
                "num_prompt_tokens": draw.randrange(1, 50),
                "tenant": f"t{number % 2}",
                "finish_reason": "stop",
                "token_times": [0.0] * draw.randrange(1, 40),
            }
            for number in range(300)
        ]
        self.log.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def make(self, seed: int) -> LengthPredictor:
        return Learned(config=LearnedConfig(log=str(self.log)), seed=seed)
