"""Compiles every kernel variant for an architecture, with no GPU, and tabulates what it uses of one.

    python -m quire_kernels.triton.compile_all --family norm --target sm_90 --jobs 2 --out tables

Every variant is compiled in a process of its own: the compiler may crash, and may report an error on stderr
and go on. What they use is checked: shared memory against the limit of the architecture, which the compiler
does not know, and scratch memory, where registers spill, against what the variant allows. `--out` takes a
directory and writes one table a family; rows that are there already and were not compiled now stay.
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
from pathlib import Path

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from quire_kernels.triton.launch import ARCHITECTURES, Architecture
from quire_kernels.triton.variants import FAMILIES, Variant, variants

COMMITTED_TABLES = Path(__file__).with_name("resources")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one program of a kernel occupies."""

    registers: int  # a thread
    scratch_bytes: int  # a thread, in device memory: spilled registers
    shared_bytes: int  # a program

    def problems(self, architecture: Architecture, variant: Variant) -> list[str]:
        """What is wrong with a variant that uses these, in one line each."""
        name, allowed = variant.name, variant.scratch_allowed
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


def specialize(variant: Variant) -> Specialization:
    """What the just-in-time compiler would see."""
    names = variant.kernel.arg_names
    absent = [name for name, type_ in variant.types.items() if type_ is None]
    constants = {**variant.launch.constants, **dict.fromkeys(absent)}
    signature = {name: "constexpr" if name in constants else variant.types.get(name, "i32") for name in names}
    return Specialization(
        signature=signature,
        constants=constants,
        aligned=tuple(
            name
            for name, type_ in signature.items()
            if type_.startswith("*")
            or name in variant.aligned
            or (name.startswith("stride_") and name not in variant.unaligned)
        ),
    )


def compile_kernel(variant: Variant, architecture: Architecture) -> CompiledKernel:
    """Compiles in this process."""
    kernel = variant.kernel
    special = specialize(variant)
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in special.aligned}
    return triton.compile(
        ASTSource(kernel, special.signature, special.constants, attributes),
        target=GPUTarget(architecture.backend, architecture.arch, architecture.warp_size),
        options=variant.launch.options(),
    )


def compile_variant(variant: Variant, architecture: Architecture) -> Resources:
    """Compiles in this process, too."""
    compiled = compile_kernel(variant, architecture)
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


# By target, then by the name of a variant.
Table = dict[str, dict[str, dict[str, int]]]


def read_table(path: Path) -> Table:
    """A family's table; empty if there is none yet or another Triton compiled it."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return stored["targets"] if stored["triton"] == triton.__version__ else {}


def render(table: Table) -> str:
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


def write_tables(directory: Path, compiled: dict[tuple[str, str, str], Resources]) -> None:
    """The tables of the families in `compiled`, whose keys are (family, target, name of the variant)."""
    directory.mkdir(parents=True, exist_ok=True)
    listed = {target: variants(architecture) for target, architecture in ARCHITECTURES.items()}
    for family in {family for family, _, _ in compiled}:
        path = directory / f"{family}.json"
        kept = read_table(path)
        table: Table = {}
        for target, families in listed.items():
            names = [variant.name for variant in families[family]]
            new = {n: asdict(compiled[family, target, n]) for n in names if (family, target, n) in compiled}
            rows = {**kept.get(target, {}), **new}
            table[target] = {name: rows[name] for name in names if name in rows}
        path.write_text(render({target: rows for target, rows in table.items() if rows}))


def main() -> int:
    """The command line; returns 1 if a variant fails to compile or uses what it may not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", choices=ARCHITECTURES, help="repeatable; default: all")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="repeatable; default: all")
    parser.add_argument("--only", default="", help="regular expression that a variant's name must contain")
    parser.add_argument("--jobs", type=int, default=1, help="variants compiled at a time")
    parser.add_argument(
        "--out", type=Path, help="directory for the tables (resources/ has the committed ones)"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    targets = [ARCHITECTURES[name] for name in arguments.target or ARCHITECTURES]
    work = [
        (family, architecture, variant)
        for architecture in targets
        for family, listed in variants(architecture).items()
        for variant in listed
        if family in (arguments.family or FAMILIES)
    ]
    if arguments.worker:
        (variant,) = (variant for _, _, variant in work if variant.name == arguments.worker)
        print(json.dumps(asdict(compile_variant(variant, targets[0]))))
        return 0

    compiled: dict[tuple[str, str, str], Resources] = {}
    failures: list[str] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        pending = [
            (family, architecture, variant, pool.submit(compile_in_process, variant, architecture))
            for family, architecture, variant in work
            if re.search(arguments.only, variant.name)
        ]
        for family, architecture, variant, future in pending:
            try:
                resources = future.result()
            except RuntimeError as error:
                failures.append(str(error))
                continue
            compiled[family, architecture.name, variant.name] = resources
            failures += [f"{architecture.name}: {line}" for line in resources.problems(architecture, variant)]
            print(
                f"{architecture.name:8}{variant.name:48}{resources.registers:4} registers, "
                f"{resources.scratch_bytes:4} B scratch, {resources.shared_bytes:7} B shared",
                flush=True,
            )
    if arguments.out:
        write_tables(arguments.out, compiled)
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
