"""Every workload keeps the contract, and the synthetic one in each of its shapes."""

import json
from pathlib import Path

import pytest
from golden_workloads import REPLAYED, SYNTHETIC

from quire.interfaces import Workload
from quire.registry import load_registry
from quire.testing import WorkloadSuite
from quire_plugins.workloads.azure_code import AzureCode, AzureCodeConfig
from quire_plugins.workloads.azure_conv import AzureConv, AzureConvConfig
from quire_plugins.workloads.demo import DemoConfig, DemoWorkload
from quire_plugins.workloads.jsonl import JsonlWorkload, JsonlWorkloadConfig
from quire_plugins.workloads.limits import TooLong
from quire_plugins.workloads.synthetic import SyntheticWorkload
from quire_plugins.workloads.synthetic_config import SyntheticConfig

TOKENS = [{"prompt": [5, 6, 7], "output_tokens": 4, "arrival": 0.25 * i, "deadline": 1.0} for i in range(5)]


class TestDemo(WorkloadSuite):
    def make(self) -> Workload:
        return DemoWorkload(config=DemoConfig(requests=40))


@pytest.mark.parametrize("shape", SYNTHETIC)
class TestSynthetic(WorkloadSuite):
    max_model_tokens = 16384

    @pytest.fixture(autouse=True)
    def _chosen(self, shape: str) -> None:
        self.options = SYNTHETIC[shape]

    def make(self) -> Workload:
        return SyntheticWorkload(config=SyntheticConfig(requests=40, **self.options))

    test_another_process_makes_the_same_requests = None  # test_golden asks one other process for all shapes


@pytest.mark.parametrize("kind", REPLAYED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("too_long", TooLong)
class TestReplayed(WorkloadSuite):
    max_model_tokens = 4096

    @pytest.fixture(autouse=True)
    def _written(self, kind: type, too_long: TooLong, tmp_path: Path) -> None:
        self.kind, self.too_long, self.path = kind, too_long, tmp_path / "trace"
        self.path.write_text(REPLAYED[kind], encoding="utf-8")
        self.drawn = kind is not JsonlWorkload  # whose text is in the file

    def make(self) -> Workload:
        return self.kind(config=self.kind.Config(path=str(self.path), too_long=self.too_long))

    test_another_process_makes_the_same_requests = None  # as above


class TestTokensOfAFile(WorkloadSuite):
    drawn = False

    @pytest.fixture(autouse=True)
    def _written(self, tmp_path: Path) -> None:
        self.path = tmp_path / "requests.jsonl"
        self.path.write_text("".join(json.dumps(line) + "\n" for line in TOKENS))

    def make(self) -> Workload:
        return JsonlWorkload(config=JsonlWorkloadConfig(path=str(self.path)))


@pytest.mark.parametrize(("kind", "config"), [(AzureConv, AzureConvConfig), (AzureCode, AzureCodeConfig)])
class TestLikeATrace(WorkloadSuite):
    @pytest.fixture(autouse=True)
    def _chosen(self, kind: type, config: type) -> None:
        self.kind, self.config = kind, config

    def make(self) -> Workload:
        return self.kind(config=self.config(limit=40))


def test_none_is_left_out():
    tested = {DemoWorkload, SyntheticWorkload, AzureConv, AzureCode, *REPLAYED}
    assert set(load_registry().available("workload").values()) == tested
