"""Models of transformers with our attention in them."""

import logging
from pathlib import Path

import pytest
import torch
from checkpoints import FOREIGN, WINDOW, make_checkpoint
from loading import load
from test_native_logits import assert_same_logits

from quire.errors import MissingCapability, UserError


@pytest.mark.parametrize("family", FOREIGN)
def test_equal_to_transformers(family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    oracle = make_checkpoint(family, tmp_path)
    assert_same_logits(load(tmp_path), oracle)
    assert "is not native: it runs through transformers" in caplog.text


def test_windows_make_groups(tmp_path: Path) -> None:
    make_checkpoint("cohere2", tmp_path)
    layers = load(tmp_path).layers
    assert [layer.window for layer in layers] == [WINDOW, None, WINDOW]
    assert [layer.group for layer in layers] == [0, 1, 0]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mamba", "it keeps recurrent state besides keys and values"),
        ("phimoe", f"layer 0 does not tell attention of its window of {WINDOW}"),
    ],
)
def test_unsuited(family: str, reason: str, tmp_path: Path) -> None:
    make_checkpoint(family, tmp_path)
    with pytest.raises(MissingCapability, match=reason):
        load(tmp_path)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("bloom", "its forward takes no position_ids"),
        ("mpt", "its forward takes no position_ids"),
        ("falcon", "0 of its 3 layers use transformers' AttentionInterface"),
        ("falcon_rw", "0 of its 3 layers use transformers' AttentionInterface"),
    ],
)
def test_alibi_is_native_only(family: str, reason: str, tmp_path: Path) -> None:
    """Without their architectures these models would not run, rather than without their biases."""
    make_checkpoint(family, tmp_path)
    with pytest.raises(MissingCapability, match=reason):
        load(tmp_path, architectures={})


def test_masks_that_attention_would_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint("olmo2", tmp_path)
    monkeypatch.setattr(
        "transformers.models.olmo2.modeling_olmo2.create_causal_mask", lambda **_: torch.zeros(1, 1, 1, 1)
    )
    with pytest.raises(MissingCapability, match=r"layer 0 has a mask, or biases, of its own$"):
        load(tmp_path)


def test_silent_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose layers scale differently from what they say must not run."""
    make_checkpoint("olmo2", tmp_path)
    from quire.models import transformers_attention

    attend = transformers_attention.AttentionStep.attend
    monkeypatch.setattr(
        transformers_attention.AttentionStep,
        "attend",
        lambda self, module, q, k, v, options: attend(self, module, 1.05 * q, k, v, options),
    )
    with pytest.raises(MissingCapability, match="logits differ by"):
        load(tmp_path)


def test_missing_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make_checkpoint("olmo2", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing keys \(model\.layers\.1\.mlp\.up_proj\.weight first\)"):
        load(tmp_path)


def test_logits_are_float32(tmp_path: Path) -> None:
    make_checkpoint("gpt2", tmp_path, dtype=torch.bfloat16)
    model = load(tmp_path)
    assert model.dtype is torch.bfloat16
    assert model.logits(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype is torch.float32
