"""What a run records about itself."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distributions import SCHEDULER, write_distribution
from quire.config.compose import compose
from quire.config.run_config import Device
from quire.jobs.launch import Launch
from quire.jobs.provenance import command_line, commit_of, describe_run
from quire.registry import load_registry


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A git checkout with one commit, of one file."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    git(directory, "init", "--quiet")
    (directory / "policy.py").write_text("answer = 42\n")
    git(directory, "add", "policy.py")
    git(directory, "commit", "--quiet", "-m", "first")
    return directory


def test_commit_of_a_tracked_file(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert commit_of(checkout / "policy.py") == head
    (checkout / "policy.py").write_text("answer = 43\n")
    assert commit_of(checkout / "policy.py") == f"{head}-dirty"


def test_a_tag_does_not_stand_in_for_the_commit(checkout):
    git(checkout, "tag", "-a", "v1", "-m", "v1")
    assert commit_of(checkout / "policy.py") == git(checkout, "rev-parse", "HEAD")


def test_a_file_that_a_checkout_merely_contains_has_no_commit(checkout):
    """As the site-packages of a virtual environment inside somebody's repository."""
    (checkout / "installed.py").write_text("")
    assert commit_of(checkout / "installed.py") is None
    assert commit_of(checkout.parent / "nowhere.py") is None


def test_no_git_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert commit_of(checkout / "policy.py") is None


def test_a_run_describes_itself_in_plain_data(tmp_path, monkeypatch):
    source = SCHEDULER.format(name="Slow")
    entries = {"quire.scheduler": {"slow": "provenance_slow:Slow"}}
    write_distribution(tmp_path, "quire-slow", entries, {"provenance_slow": source}, version="3.1")
    monkeypatch.syspath_prepend(tmp_path)
    registry = load_registry()
    config = compose(["scheduler=slow", "scheduler.aging=4", "device=cpu"], registry)
    sweep = tmp_path / "multirun"
    launch = Launch(command=("run.py", "-m", "seed=1,2"), overrides=("seed=1",), sweep=sweep)
    found = describe_run(config, registry, launch=launch)

    assert json.loads(json.dumps(found)) == found
    assert config.device is Device.cpu
    assert found["config"]["device"] == "cpu"
    assert found["config"]["scheduler"] == {"aging": 4.0}
    assert found["config"]["engine"]["max_sequences"] == config.engine.max_sequences
    assert found["choices"]["scheduler"] == "slow"
    assert found["choices"]["allocator"] == "paged"
    assert found["plugins"]["scheduler"] == {
        "target": "provenance_slow:Slow",
        "distribution": "quire-slow",
        "version": "3.1",
    }
    assert found["distributions"]["quire-slow"] == {"version": "3.1", "commit": None}
    assert "penalties" in found["available"]["logits_processor"]
    assert found["distributions"]["quire"]["version"] == importlib.metadata.version("quire")
    assert found["libraries"]["torch"] == importlib.metadata.version("torch")
    assert found["command"] == ["run.py", "-m", "seed=1,2"]
    assert (found["overrides"], found["sweep"]) == (["seed=1"], str(sweep))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory"] > 2**20


def test_describing_imports_no_heavy_library():
    code = (
        "import sys; from quire.config.compose import compose; from quire.registry import load_registry;"
        "from quire.jobs.provenance import describe_run; registry = load_registry();"
        "from quire.jobs.launch import Launch;"
        "describe_run(compose([], registry), registry, launch=Launch(command=()));"
        "print(sorted({'torch', 'triton', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--rounds", "3", "--out", "somewhere/r.json"], "python a/b.py --rounds 3"),
        (["--out=r.json", "--arms", "two words"], "python a/b.py --arms 'two words'"),
        (["--peers", "there"], "python a/b.py"),
        (["--fresh", "--rounds", "3"], "python a/b.py --rounds 3"),
    ],
)
def test_a_command_leaves_out_what_changes_no_result(monkeypatch, arguments, command):
    monkeypatch.setattr(sys, "argv", ["/anywhere/b.py", *arguments])
    assert command_line("a/b.py") == command
