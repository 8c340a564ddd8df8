"""Why decoding steps do not become graphs, where they do not."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import make_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
from deferred import make_engine

from quire_plugins.executors.local import LocalExecutor


class DecidesAsOnGpu(LocalExecutor):
    """Computes on a CPU."""

    def _capture(self):
        context = self._context
        self._context = replace(context, device="cuda")
        try:
            assert super()._capture() is None
        finally:
            self._context = context


def warnings_of(caplog: pytest.LogCaptureFixture, checkpoint: Path, *overrides: str) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="quire_plugins.executors.local"):
        make_engine(checkpoint, *overrides, replaced={"executor": DecidesAsOnGpu}).close()
    return [record.getMessage() for record in caplog.records]


START = "executor.cuda_graphs: decoding steps are launched one by one: "


def test_an_attention_backend_that_cannot_be_captured_is_named(tmp_path, caplog):
    make_checkpoint("llama", tmp_path)
    assert warnings_of(caplog, tmp_path, "attention=sdpa") == [
        START + "SdpaAttention prepares each step anew"
    ]


def test_experts_multiplied_one_by_one_are_named(tmp_path, caplog, monkeypatch):
    make_checkpoint("qwen3_moe_mixed", tmp_path)
    monkeypatch.setattr("quire_plugins.attention.sdpa.SdpaAttention.capturable", True)
    assert warnings_of(caplog, tmp_path, "attention=sdpa", "ops=torch") == [
        START + "layers.1.mlp.experts.gate_up asks the device how many rows each expert has"
    ]


def test_a_model_of_transformers_is_named(tmp_path, caplog, monkeypatch):
    make_checkpoint("olmo2", tmp_path)
    monkeypatch.setattr("quire_plugins.attention.sdpa.SdpaAttention.capturable", True)
    assert warnings_of(caplog, tmp_path, "attention=sdpa") == [
        START + "models that run through transformers may ask the device anything"
    ]


def test_who_wants_no_graphs_hears_nothing(tmp_path, caplog):
    make_checkpoint("llama", tmp_path)
    assert warnings_of(caplog, tmp_path, "attention=sdpa", "executor.cuda_graphs=false") == []
