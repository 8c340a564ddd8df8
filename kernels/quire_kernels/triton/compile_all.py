"""Compiles every kernel variant for an architecture, with no GPU, and tabulates what it uses of one.

    python -m quire_kernels.triton.compile_all --target sm_90 --jobs 2 --out table.json

Every variant is compiled in a process of its own: the compiler may crash, and may report an error on stderr
and go on. The table is checked: shared memory against the limit of the architecture, which the compiler does
not know, and scratch memory, where registers spill, against SCRATCH_ALLOWED.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import triton
from triton import JITFunction, knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from quire_kernels.triton.launch import ARCHITECTURES, Architecture
from quire_kernels.triton.variants import Variant, variants

COMMITTED_TABLE = Path(__file__).with_name("resources.json")

# Bytes of scratch memory a thread that a variant may use. In all of these the assembler stops at 80 or 168
# registers, which keeps three programs on a processor, and spills two to six values.
SCRATCH_ALLOWED = {
    ("sm_86", "unified-fp16-d128-g4-window-softcap-sinks-lse"): 24,
    ("sm_90", "unified-fp32-d80-g4"): 8,
    ("sm_90", "unified-fp32-d96-g4"): 8,
}

# Strides of lse and of the block tables are as odd as the number of heads and the longest table.
_UNALIGNED_STRIDES = ("stride_table", "stride_lse", "stride_lse_token", "stride_lse_head")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one program of a kernel occupies."""

    registers: int  # a thread
    scratch_bytes: int  # a thread, in device memory: spilled registers
    shared_bytes: int  # a program

    def problems(self, architecture: Architecture, name: str) -> list[str]:
        """What is wrong with a variant that uses these, in one line each."""
        allowed = SCRATCH_ALLOWED.get((architecture.name, name), 0)
        found = []
        if self.shared_bytes > architecture.shared_bytes:
            found.append(
                f"{name}: {self.shared_bytes} bytes of shared memory; limit {architecture.shared_bytes}"
            )
        if self.scratch_bytes > allowed:
            found.append(f"{name}: {self.scratch_bytes} bytes of scratch memory a thread; allowed {allowed}")
        return found


@dataclass(frozen=True, kw_only=True)
class Specialization:
    """A kernel's arguments as the compiler sees them."""

    signature: dict[str, str]
    constants: dict[str, int | bool | None]
    aligned: tuple[str, ...]  # pointers and integers that are multiples of 16


def load_kernel(variant: Variant) -> JITFunction:
    """The kernel of a variant."""
    return getattr(import_module(f"quire_kernels.triton.{variant.module}"), variant.kernel)


def specialize(variant: Variant, names: list[str]) -> Specialization:
    """What the just-in-time compiler would see for a kernel with these parameters."""
    absent = [name for name, type_ in variant.types.items() if type_ is None]
    constants = {**variant.launch.constants, **dict.fromkeys(absent)}
    signature = {name: "constexpr" if name in constants else variant.types.get(name, "i32") for name in names}
    return Specialization(
        signature=signature,
        constants=constants,
        aligned=tuple(
            name
            for name, type_ in signature.items()
            if type_.startswith("*") or (name.startswith("stride_") and name not in _UNALIGNED_STRIDES)
        ),
    )


def compile_variant(variant: Variant, architecture: Architecture) -> Resources:
    """Compiles in this process."""
    kernel = load_kernel(variant)
    special = specialize(variant, kernel.arg_names)
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in special.aligned}
    compiled = triton.compile(
        ASTSource(kernel, special.signature, special.constants, attributes),
        target=GPUTarget(architecture.backend, architecture.arch, architecture.warp_size),
        options=variant.launch.options(),
    )
    if architecture.backend == "cuda":
        registers, scratch = _cubin_resources(compiled.asm["cubin"])
    else:
        registers, scratch = _amdgcn_resources(compiled.asm["amdgcn"])
    return Resources(registers=registers, scratch_bytes=scratch, shared_bytes=compiled.metadata.shared)


def _cubin_resources(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of stack and local memory) a thread, as the disassembler reads them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.check_output(
            [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name], text=True
        )
    registers, stack, local = (
        int(re.search(rf"\b{key}:(\d+)", usage)[1]) for key in ("REG", "STACK", "LOCAL")
    )
    return registers, stack + local


def _amdgcn_resources(assembly: str) -> tuple[int, int]:
    """(vector registers, bytes of private memory) a thread, from the kernel's metadata."""
    keys = (r"\.vgpr_count", r"\.private_segment_fixed_size")
    registers, scratch = (int(re.search(rf"{key}:\s*(\d+)", assembly)[1]) for key in keys)
    return registers, scratch


def compile_in_process(variant: Variant, architecture: Architecture) -> Resources:
    """Compiles in a process of its own, with an empty cache; a RuntimeError holds what the compiler said."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TRITON_CACHE_DIR": cache, "TRITON_INTERPRET": "0"}
        worker = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--target", architecture.name, "--worker", variant.name],
            env=environment,
            capture_output=True,
            text=True,
        )
    if worker.returncode != 0 or "error:" in worker.stderr:
        raise RuntimeError(
            f"{variant.name} on {architecture.name}: exit {worker.returncode}\n{worker.stderr[-2000:]}"
        )
    return Resources(**json.loads(worker.stdout.splitlines()[-1]))


def render(table: dict[str, dict[str, dict[str, int]]]) -> str:
    """The table as JSON, with a line for each variant, so that a change reads well."""
    targets = [
        f"  {json.dumps(target)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        + "\n  }"
        for target, rows in table.items()
    ]
    return (
        f'{{\n "triton": {json.dumps(triton.__version__)},\n "targets": {{\n'
        + ",\n".join(targets)
        + "\n }\n}\n"
    )


def main() -> int:
    """The command line; returns 1 if a variant fails to compile or uses what it may not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=ARCHITECTURES, help="repeatable; default: all")
    parser.add_argument("--only", default="", help="regular expression that a variant's name must contain")
    parser.add_argument("--jobs", type=int, default=1, help="variants compiled at a time")
    parser.add_argument("--out", type=Path, help="where to write the table as JSON")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    targets = [ARCHITECTURES[name] for name in arguments.target or ARCHITECTURES]
    if arguments.worker:
        (variant,) = (v for v in variants(targets[0]) if v.name == arguments.worker)
        print(json.dumps(asdict(compile_variant(variant, targets[0]))))
        return 0

    work = [(a, v) for a in targets for v in variants(a) if re.search(arguments.only, v.name)]
    table: dict[str, dict[str, dict[str, int]]] = {architecture.name: {} for architecture in targets}
    failures: list[str] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        pending = [(a, v, pool.submit(compile_in_process, v, a)) for a, v in work]
        for architecture, variant, future in pending:
            try:
                resources = future.result()
            except RuntimeError as error:
                failures.append(str(error))
                continue
            table[architecture.name][variant.name] = asdict(resources)
            failures += [
                f"{architecture.name}: {line}" for line in resources.problems(architecture, variant.name)
            ]
            print(
                f"{architecture.name:8}{variant.name:48}{resources.registers:4} registers, "
                f"{resources.scratch_bytes:4} B scratch, {resources.shared_bytes:7} B shared",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(render(table))
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
