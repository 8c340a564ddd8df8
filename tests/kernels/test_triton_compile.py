"""The Triton kernels compile for every architecture, without a GPU, and use what the committed table says."""

import dataclasses
import importlib.util
import json
import subprocess

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton

from quire_kernels.triton import compile_all
from quire_kernels.triton.compile_all import Resources, compile_in_process
from quire_kernels.triton.launch import ARCHITECTURES
from quire_kernels.triton.variants import variants

COMMITTED = json.loads(compile_all.COMMITTED_TABLE.read_text())
QUICK = {
    "unified-bf16-d128-g4",
    "split-fp32-d64-g4",
    "unified-fp16-d128-g4-window-softcap-sinks-lse",
    "merge-bf16-d128",
}
QUICK_TARGETS = ("sm_80", "sm_90", "gfx942")


def _cases():
    for target, architecture in ARCHITECTURES.items():
        for variant in variants(architecture):
            quick = target in QUICK_TARGETS and variant.name in QUICK
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(architecture, variant, id=f"{target}-{variant.name}", marks=marks)


@pytest.mark.parametrize(("architecture", "variant"), list(_cases()))
def test_variant_compiles_and_fits(architecture, variant):
    resources = compile_in_process(variant, architecture)
    assert resources.problems(architecture, variant.name) == []
    if triton.__version__ == COMMITTED["triton"]:
        assert resources == Resources(**COMMITTED["targets"][architecture.name][variant.name]), (
            "resources.json is out of date: python -m quire_kernels.triton.compile_all --out that file"
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_committed_table_is_complete_and_has_no_problem(architecture):
    table = COMMITTED["targets"][architecture.name]
    assert list(table) == [variant.name for variant in variants(architecture)]
    for name, row in table.items():
        assert Resources(**row).problems(architecture, name) == []


def test_every_exception_for_scratch_memory_is_used():
    for (target, name), allowed in compile_all.SCRATCH_ALLOWED.items():
        assert COMMITTED["targets"][target][name]["scratch_bytes"] == allowed


def test_too_much_shared_memory_and_spilling_are_reported():
    architecture = ARCHITECTURES["gfx942"]
    greedy = Resources(registers=256, scratch_bytes=4, shared_bytes=architecture.shared_bytes + 1)
    assert greedy.problems(architecture, "x") == [
        "x: 65537 bytes of shared memory; limit 65536",
        "x: 4 bytes of scratch memory a thread; allowed 0",
    ]


def test_a_failing_compilation_is_an_error():
    unknown = dataclasses.replace(variants(ARCHITECTURES["sm_90"])[0], name="unknown")
    with pytest.raises(RuntimeError, match="unknown on sm_90: exit 1"):
        compile_in_process(unknown, ARCHITECTURES["sm_90"])


def test_an_error_on_stderr_counts_although_the_compiler_goes_on(monkeypatch):
    said = subprocess.CompletedProcess([], returncode=0, stdout="{}", stderr="loc(1): error: no such thing")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    with pytest.raises(RuntimeError, match="exit 0\nloc\\(1\\): error: no such thing"):
        compile_in_process(variants(ARCHITECTURES["sm_90"])[0], ARCHITECTURES["sm_90"])
