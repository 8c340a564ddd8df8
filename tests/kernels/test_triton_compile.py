"""The Triton kernels compile for every architecture, without a GPU, and use what the committed table says."""

import dataclasses
import importlib.util
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton

from quire_kernels.triton import compile_all
from quire_kernels.triton.compile_all import Resources, compile_in_process
from quire_kernels.triton.launch import ARCHITECTURES, Architecture
from quire_kernels.triton.variants import FAMILIES, Variant, variants

COMMITTED = {
    family: json.loads((compile_all.COMMITTED_TABLES / f"{family}.json").read_text()) for family in FAMILIES
}
QUICK = {
    "unified-bf16-d128-g4",
    "split-fp32-d64-g4",
    "unified-fp16-d128-g4-window-softcap-sinks-lse",
    "merge-states-bf16-d128-lse",
    "mla-bf16-d512-r64-h16-shares",
}
QUICK_TARGETS = ("sm_80", "sm_90", "gfx942")
FIRST = variants(ARCHITECTURES["sm_90"])["attention"][0]


def _all() -> Iterator[tuple[str, Architecture, Variant]]:
    for architecture in ARCHITECTURES.values():
        for family, listed in variants(architecture).items():
            for variant in listed:
                yield family, architecture, variant


def _cases():
    for family, architecture, variant in _all():
        quick = architecture.name in QUICK_TARGETS and variant.name in QUICK
        marks = [] if quick else [pytest.mark.slow]
        name = f"{architecture.name}-{variant.name}"
        yield pytest.param(family, architecture, variant, id=name, marks=marks)


@pytest.mark.parametrize(("family", "architecture", "variant"), list(_cases()))
def test_variant_compiles_and_fits(family, architecture, variant):
    resources = compile_in_process(variant, architecture)
    assert resources.problems(architecture, variant) == []
    if triton.__version__ == COMMITTED[family]["triton"]:
        assert resources == Resources(**COMMITTED[family]["targets"][architecture.name][variant.name]), (
            f"resources/{family}.json is out of date: "
            f"python -m quire_kernels.triton.compile_all --family {family} --out that directory"
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_committed_tables_are_complete_and_have_no_problem(architecture):
    for family, listed in variants(architecture).items():
        table = COMMITTED[family]["targets"].get(architecture.name, {})
        assert list(table) == [variant.name for variant in listed]
        for variant in listed:
            assert Resources(**table[variant.name]).problems(architecture, variant) == []


def test_every_family_has_a_table_and_every_table_a_family():
    assert {path.stem for path in compile_all.COMMITTED_TABLES.iterdir()} == set(FAMILIES)


def test_names_of_variants_are_unique():
    names = [(architecture.name, variant.name) for _, architecture, variant in _all()]
    assert len(set(names)) == len(names)


def test_every_exception_for_scratch_memory_is_used():
    for family, architecture, variant in _all():
        used = COMMITTED[family]["targets"][architecture.name][variant.name]["scratch_bytes"]
        assert used == variant.scratch_allowed


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_gumbel_noise_is_rounded_as_on_a_cpu(fused, monkeypatch, tmp_path):
    """No product and sum are rounded as one, which they would be if the launch did not forbid it."""
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    architecture = ARCHITECTURES["sm_90"]
    (variant,) = (each for each in variants(architecture)["gumbel"] if each.name == "gumbel-argmax")
    assert not variant.launch.fp_fusion
    launch = dataclasses.replace(variant.launch, fp_fusion=fused)
    compiled = compile_all.compile_kernel(dataclasses.replace(variant, launch=launch), architecture)
    assert ("fma." in compiled.asm["ptx"]) == fused


def test_tables_are_written_row_by_row(tmp_path):
    architecture = ARCHITECTURES["sm_90"]
    first, second, *_ = (variant.name for variant in variants(architecture)["norm"])
    rows = [Resources(registers=count, scratch_bytes=0, shared_bytes=0) for count in (1, 2, 3)]
    compile_all.write_tables(
        tmp_path, {("norm", "sm_90", second): rows[0], ("norm", "sm_90", "gone"): rows[2]}
    )
    compile_all.write_tables(tmp_path, {("norm", "sm_90", first): rows[1]})
    table = compile_all.read_table(tmp_path / "norm.json")
    assert table == {"sm_90": {first: asdict(rows[1]), second: asdict(rows[0])}}
    assert list(table["sm_90"]) == [first, second]
    (tmp_path / "norm.json").write_text('{"triton": "0.0", "targets": {"sm_90": {}}}')
    assert compile_all.read_table(tmp_path / "norm.json") == {}


def test_too_much_shared_memory_and_spilling_are_reported():
    architecture = ARCHITECTURES["gfx942"]
    greedy = Resources(registers=256, scratch_bytes=4, shared_bytes=architecture.shared_bytes + 1)
    variant = dataclasses.replace(FIRST, name="x")
    assert greedy.problems(architecture, variant) == [
        "x: 65537 bytes of shared memory; limit 65536",
        "x: 4 bytes of scratch memory a thread; allowed 0",
    ]
    allowed = dataclasses.replace(greedy, shared_bytes=0)
    assert allowed.problems(architecture, dataclasses.replace(FIRST, scratch_allowed=4)) == []


def test_a_failing_compilation_is_an_error():
    unknown = dataclasses.replace(FIRST, name="unknown")
    with pytest.raises(RuntimeError, match="unknown on sm_90: exit 1"):
        compile_in_process(unknown, ARCHITECTURES["sm_90"])


def test_an_error_on_stderr_counts_although_the_compiler_goes_on(monkeypatch):
    said = subprocess.CompletedProcess([], returncode=0, stdout="{}", stderr="loc(1): error: no such thing")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    with pytest.raises(RuntimeError, match="exit 0\nloc\\(1\\): error: no such thing"):
        compile_in_process(FIRST, ARCHITECTURES["sm_90"])
