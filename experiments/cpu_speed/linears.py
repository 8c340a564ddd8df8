"""Linear layers alone, in bf16, w8a8 and w4a16: milliseconds at 1 to 512 rows, in the shapes of two models.

    python experiments/cpu_speed/linears.py    # about two minutes

A round goes through the kinds one after the other, every other round in the opposite order, and through so
many layers that no cache holds their weights. Heads are of the whole vocabulary, with logits in float32.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from quire.interfaces.ops import Ops
from quire.jobs.provenance import command_line, commit_of, describe_machine
from quire.registry import load_registry
from quire.runtime.machine import cpu_threads, keep_freed_memory

HERE = Path(__file__).parent
KINDS = ("bf16", "w8a8", "w4a16")
ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
Shapes = list[tuple[int, int]]
"""Outputs and inputs of one layer's products: QKV, O, gate and up, down."""
MODELS: dict[str, tuple[int, Shapes]] = {
    "135m": (30, [(960, 576), (576, 576), (3072, 576), (576, 1536)]),
    "0.6b": (8, [(4096, 1024), (1024, 2048), (6144, 1024), (1024, 3072)]),
}
HEADS: dict[str, tuple[int, Shapes]] = {
    "135m head": (1, [(49152, 576)]),
    "0.6b head": (1, [(151936, 1024)]),
}
HEAD_ROWS = (1, 4, 16, 32, 64, 128, 256)

Net = list[tuple[Callable[[torch.Tensor], torch.Tensor], int]]
"""Products and how many inputs each has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a layer, few rows, no heads: to try the script")
    parser.add_argument("--out", type=Path, default=HERE / "linears.json")
    arguments = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    keep_freed_memory()
    models = {}
    for name, (layers, shapes) in (MODELS if arguments.quick else MODELS | HEADS).items():
        rows = HEAD_ROWS if name in HEADS else ROWS
        nets = {
            kind: make(kind, shapes, 1 if arguments.quick else layers, head=name in HEADS) for kind in KINDS
        }
        models[name] = measure(nets, rows[:3] if arguments.quick else rows, arguments.rounds)
        print(f"{name} done", flush=True)
    report = {
        "command": command_line("experiments/cpu_speed/linears.py"),
        "commit": commit_of(Path(__file__)),
        "machine": describe_machine(),
        "versions": {name: version(name) for name in ("quire", "torch")},
        "rounds": arguments.rounds,
        "models": models,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    import tables

    print(tables.linears(report))


def make(kind: str, shapes: Shapes, layers: int, *, head: bool) -> Net:
    """What the plugins make of random weights."""
    registry = load_registry()

    def plugin(group: str, name: str):
        return registry.create(group, registry.get(group, name).Config(), device="cpu")

    ops: Ops = plugin("ops", "native")
    quantization = None if kind == "bf16" else plugin("quantization", kind)
    net: Net = []
    for outputs, inputs in shapes * layers:
        weight_OI = torch.randn(outputs, inputs).mul_(inputs**-0.5).bfloat16()
        if quantization is None:
            net.append((ops.head(weight_OI).logits if head else ops.linear(weight_OI, None), inputs))
        else:
            product = quantization.linear(weight_OI, None, name="", ops=ops)
            net.append((product.in_float32 if head else product, inputs))
    return net


def measure(nets: dict[str, Net], rows: tuple[int, ...], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by kind and number of rows, one for each round; one more goes before, to warm up."""
    times: dict[str, dict[str, list[float]]] = {kind: {str(count): [] for count in rows} for kind in nets}
    for count in rows:
        inputs = {size for net in nets.values() for _, size in net}
        x = {size: torch.randn(count, size).bfloat16() for size in inputs}
        for turn in range(rounds + 1):
            for kind in list(nets)[:: 1 if turn % 2 else -1]:
                began = time.perf_counter()
                for product, size in nets[kind]:
                    product(x[size])
                if turn:
                    times[kind][str(count)].append(1e3 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
