"""Building the C++ kernels: what fails says so in a line, and two processes build once."""

import os
import subprocess
import sys

import pytest

from quire_kernels.cpu import build


def fake_compiler(path, body):
    """An executable that a build calls as its compiler; $out is the file that it should write."""
    path.write_text(f"#!/bin/sh\nfor arg; do out=$arg; done\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUIRE_CACHE", str(tmp_path))
    return tmp_path


def test_a_missing_compiler_is_named(empty_cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        build.KernelBuildError, match=r"'no-such-compiler' was not found.*attention=sdpa ops=torch"
    ):
        build.load_kernels.__wrapped__()


def test_a_failing_compiler_leaves_a_log(empty_cache, monkeypatch):
    compiler = fake_compiler(empty_cache / "broken", 'echo "no room left"; exit 3')
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(build.KernelBuildError, match="its output is in") as failure:
        build.load_kernels.__wrapped__()
    assert "\n" not in str(failure.value)
    (log,) = (empty_cache / "kernels").glob("*.log")
    assert str(log) in str(failure.value)
    assert "no room left" in log.read_text()
    assert not list((empty_cache / "kernels").glob("*.so"))


def test_the_name_follows_sources_and_flags(monkeypatch, tmp_path):
    before = build.library_path()
    assert build.library_path() == before
    monkeypatch.setattr(build, "COMPILE_FLAGS", [*build.COMPILE_FLAGS, "-O1"])
    assert build.library_path() != before
    monkeypatch.undo()
    (tmp_path / "other.cpp").write_text("int x;")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.library_path() != before


def test_two_processes_build_once(tmp_path):
    build.load_kernels()
    built = build.library_path()
    calls = tmp_path / "calls"
    compiler = fake_compiler(tmp_path / "slow", f'echo $out >> {calls}; sleep 0.1; cp {built} "$out"')
    environment = os.environ | {"QUIRE_CACHE": str(tmp_path), "CXX": compiler}
    program = (
        "from quire_kernels import cpu; cpu.load_kernels(); import torch; print(torch.ops.quire_cpu.isas())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "baseline" in output
    linked = [line for line in calls.read_text().splitlines() if line.endswith(".so")]
    assert len(linked) == 1
