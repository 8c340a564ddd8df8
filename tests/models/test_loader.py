"""Reading safetensors lazily."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quire.errors import UserError
from quire.models.loader import TensorFiles
from quire.models.weights import Weights

A = torch.arange(6, dtype=torch.float32).reshape(2, 3)
B = torch.arange(9, dtype=torch.float32).reshape(3, 3) / 7


def save_shards(directory: Path) -> None:
    save_file({"a": A}, directory / "one.safetensors")
    save_file({"b": B}, directory / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def weights(
    directory: Path, expected: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32
) -> Weights:
    return Weights(
        files=TensorFiles(directory), rename=lambda name: name, expected=expected, device="cpu", dtype=dtype
    )


def test_stacked_over_shards(tmp_path: Path) -> None:
    save_shards(tmp_path)
    reader = weights(tmp_path, {"a": (2, 3), "b": (3, 3)})
    assert torch.equal(reader.stacked("b", "a"), torch.cat([B, A]))
    reader.close()
    assert torch.equal(reader.tensor("a"), A)


def test_converts_the_type(tmp_path: Path) -> None:
    save_shards(tmp_path)
    reader = weights(tmp_path, {"a": (2, 3), "b": (3, 3)}, dtype=torch.bfloat16)
    assert torch.equal(reader.tensor("b"), B.bfloat16())


def test_what_is_read_outlives_the_file(tmp_path: Path) -> None:
    save_shards(tmp_path)
    reader = weights(tmp_path, {"a": (2, 3), "b": (3, 3)})
    tensor = reader.tensor("b")
    reader.close()
    (tmp_path / "two.safetensors").write_bytes(b"")
    assert torch.equal(tensor, B)


@pytest.mark.parametrize("size", [0, 5, 40, -4])
def test_truncated(size: int, tmp_path: Path) -> None:
    save_shards(tmp_path)
    file = tmp_path / "two.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"two\.safetensors: not a readable safetensors file") as error:
        TensorFiles(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_shard(tmp_path: Path) -> None:
    save_shards(tmp_path)
    (tmp_path / "one.safetensors").unlink()
    with pytest.raises(UserError, match=r"one\.safetensors: missing, though"):
        TensorFiles(tmp_path)


def test_index_that_promises_too_much(tmp_path: Path) -> None:
    save_shards(tmp_path)
    index = {"weight_map": {"a": "one.safetensors", "c": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"two\.safetensors: .* says it holds c"):
        TensorFiles(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_unreadable_index(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="not a readable index"):
        TensorFiles(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"no \*\.safetensors file"):
        TensorFiles(tmp_path)


def test_publishers_own_copy_is_left_out(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "weights.safetensors")
    save_file({"tok_embeddings": B}, tmp_path / "consolidated.safetensors")
    assert set(TensorFiles(tmp_path).entries) == {"a"}


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"a": (2, 3)}, r"weights: 1 tensor \(b\) in the checkpoint not known to this architecture"),
        ({"a": (2, 3), "b": (3, 3), "x": (1,)}, r"weights: 1 tensor \(x\) missing from the checkpoint"),
        (
            {"a": (2, 3), "b": (3, 3), "x": (1,), "y": (1,)},
            r"weights: 2 tensors \(x first\) missing from the checkpoint",
        ),
        ({"a": (3, 2), "b": (3, 3)}, r"tensor a has shape \[2, 3\]: config\.json asks for \[3, 2\]"),
    ],
)
def test_checked_before_reading(expected: dict[str, tuple[int, ...]], message: str, tmp_path: Path) -> None:
    save_shards(tmp_path)
    with pytest.raises(UserError, match=message):
        weights(tmp_path, expected)


def test_quantised(tmp_path: Path) -> None:
    save_file({"a": A.to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="tensor a is quantised"):
        weights(tmp_path, {"a": (2, 3)})
