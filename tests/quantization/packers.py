"""Quantised checkpoints made from float ones: each format written out by its definition, value by value."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP = 32
Tensors = dict[str, Tensor]


def round_to_groups(weight_OI: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Integers from 0, float16 scales [O, G] and zeros [O, G], by group minimum and maximum."""
    last = 2**bits - 1
    values, scales, zeros = [], [], []
    for part in weight_OI.split(group, dim=1):
        low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
        scale = ((high - low) / last).half().float()
        zero = (-low / scale).round().clamp(0, last)
        values.append((part / scale + zero).round().clamp(0, last))
        scales.append(scale)
        zeros.append(zero)
    return torch.cat(values, 1).long(), torch.cat(scales, 1).half(), torch.cat(zeros, 1).long()


def to_float(values: Tensor, scales: Tensor, zeros: Tensor, group: int) -> Tensor:
    columns = torch.arange(values.shape[1]) // group
    return (values - zeros[:, columns]).float() * scales.float()[:, columns]


def pack_last(values: Tensor, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """int32 words of neighbours along the last dimension; `order[i]` is the neighbour in the i-th bits."""
    per_word = 32 // bits
    words = torch.zeros(*values.shape[:-1], values.shape[-1] // per_word, dtype=torch.int64)
    for position, place in enumerate(order or range(per_word)):
        words += values[..., place::per_word] << (bits * position)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def gptq(weight: Tensor, bits: int = 4, shift: int = 1, g_idx: bool = True) -> tuple[Tensors, Tensor]:
    values, scales, zeros = round_to_groups(weight, bits, GROUP)
    stored = (zeros - shift) % 2**bits
    tensors = {
        "qweight": pack_last(values, bits).T.contiguous(),
        "qzeros": pack_last(stored.T.contiguous(), bits),
        "scales": scales.T.contiguous(),
    }
    if g_idx:
        tensors["g_idx"] = (torch.arange(weight.shape[1]) // GROUP).int()
    return tensors, to_float(values, scales, zeros, GROUP)


def awq(weight: Tensor) -> tuple[Tensors, Tensor]:
    values, scales, zeros = round_to_groups(weight, 4, GROUP)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "qweight": pack_last(values.T.contiguous(), 4, order),
        "qzeros": pack_last(zeros.T.contiguous(), 4, order),
        "scales": scales.T.contiguous(),
    }
    return tensors, to_float(values, scales, zeros, GROUP)


def packed(
    weight: Tensor, bits: int = 4, symmetric: bool = False, group: int = GROUP
) -> tuple[Tensors, Tensor]:
    values, scales, zeros = round_to_groups(weight, bits, group)
    if symmetric:
        middle = 2 ** (bits - 1)
        scales = (torch.stack([part.abs().amax(1) for part in weight.split(group, dim=1)], 1) / middle).half()
        zeros = torch.full_like(zeros, middle)
        columns = torch.arange(weight.shape[1]) // group
        values = (weight / scales.float()[:, columns] + middle).round().clamp(0, 2**bits - 1).long()
    tensors = {
        "weight_packed": pack_last(values, bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor(weight.shape),
    }
    if not symmetric:
        tensors["weight_zero_point"] = pack_last(zeros.T.contiguous(), bits).T.contiguous()
    return tensors, to_float(values, scales, zeros, group)


def int8(weight: Tensor) -> tuple[Tensors, Tensor]:
    scales = (weight.abs().amax(1, keepdim=True) / 127).bfloat16()
    values = (weight / scales.float()).round().clamp(-128, 127)
    return {"weight": values.to(torch.int8), "weight_scale": scales}, values * scales.float()


def scheme(bits: int, strategy: str, *, symmetric: bool, activations: bool = False) -> dict[str, Any]:
    """A quantization_config of compressed-tensors."""
    weights = {
        "num_bits": bits,
        "type": "int",
        "symmetric": symmetric,
        "strategy": strategy,
        "dynamic": False,
    }
    weights |= {"group_size": GROUP if strategy == "group" else None, "actorder": None}
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs if activations else None}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if activations else "pack-quantized",
        "config_groups": {"group_0": group | {"output_activations": None}},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


Packer = Callable[[Tensor], tuple[Tensors, Tensor]]


def quantise_checkpoint(source: Path, packer: Packer, config: dict[str, Any]) -> tuple[Path, Path]:
    """From a float checkpoint a quantised one, and the float one of the same values."""
    stored, floats = source / "stored", source / "floats"
    tensors = load_file(source / "model.safetensors")
    new: Tensors = {}
    same: Tensors = {}
    for name, tensor in tensors.items():
        same[name] = new[name] = tensor
        if name.endswith("_proj.weight"):
            parts, same[name] = packer(tensor.float())
            del new[name]
            new |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
    declared = json.loads((source / "config.json").read_text())
    for directory, content, extra in ((stored, new, {"quantization_config": config}), (floats, same, {})):
        directory.mkdir()
        save_file(content, directory / "model.safetensors", metadata={"format": "pt"})
        (directory / "config.json").write_text(json.dumps(declared | extra))
    return stored, floats
