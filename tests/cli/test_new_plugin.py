"""`quire new-plugin`: what it writes works as it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import quire.testing
from quire.cli.new_plugin import main, template_kinds
from quire.errors import UserError
from quire.kinds import KINDS

RUN_PY = Path(__file__).parents[2] / "run.py"


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def test_which_kinds_have_a_suite_and_which_a_template():
    suites = {name.removesuffix("Suite").lower() for name in quire.testing.__all__ if name.endswith("Suite")}
    kinds = {kind.name.replace("_", "") for kind in KINDS}
    assert suites == kinds - {"task", "architecture"}
    assert {kind.replace("_", "") for kind in template_kinds()} == kinds - {"ops", "executor", "architecture"}


@pytest.mark.parametrize("kind", template_kinds())
def test_a_distribution_is_written_under_its_own_names(kind, tmp_path, capsys):
    directory = tmp_path / "somewhere" / "else"
    main([kind, "try_it2", "--directory", str(directory)])
    written = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    package = "quire_try_it2"
    assert written == {
        "pyproject.toml",
        "README.md",
        f"{package}/__init__.py",
        f"{package}/{kind}.py",
        "tests/test_try_it2.py",
    }
    printed = capsys.readouterr().out
    for file in written:
        text = (directory / file).read_text()
        assert "new_plugin" not in text.lower().replace("-", "_").replace("newplugin", "new_plugin"), file
        assert file in printed
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    assert project["name"] == "quire-try-it2"
    class_name = "TryIt2" + "".join(word.capitalize() for word in kind.split("_"))
    assert project["entry-points"] == {f"quire.{kind}": {"try_it2": f"{package}.{kind}:{class_name}"}}
    assert f"class {class_name}(" in (directory / package / f"{kind}.py").read_text()


def test_it_is_written_beside_you_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["scheduler", "mine"])
    assert (tmp_path / "quire-mine" / "quire_mine" / "scheduler.py").exists()


@pytest.mark.slow
def test_the_tests_of_every_kind_pass(tmp_path):
    """In one process, with the packages on the path: what they inherit and what they say of themselves."""
    for kind in template_kinds():
        main([kind, f"try_{kind}", "--directory", str(tmp_path / kind)])
        os.symlink(tmp_path / kind / f"quire_try_{kind}", tmp_path / f"quire_try_{kind}")
    tests = [str(tmp_path / kind / "tests") for kind in template_kinds()]
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pip_installs_it_and_the_command_line_knows_it(tmp_path):
    main(["scheduler", "mine", "--directory", str(tmp_path / "source")])
    site = tmp_path / "site"
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    installing = run(site, "-m", "pip", "install", *options, "--target", str(site), str(tmp_path / "source"))
    assert installing.returncode == 0, installing.stderr
    listed = json.loads(run(site, str(RUN_PY), "plugins", "scheduler", "--json").stdout)
    (mine,) = [plugin for plugin in listed if plugin["name"] == "mine"]
    assert (mine["distribution"], mine["status"]) == ("quire-mine", "ok")
    shown = run(site, str(RUN_PY), "scheduler=mine", "scheduler.aging=2", "--cfg", "job", "-p", "scheduler")
    assert shown.stdout == "# @package scheduler\naging: 2.0\n"


@pytest.mark.parametrize(
    "name", ["", "Mine", "my-policy", "2nd", "_x", "x_", "a__b", "class", "a b", "../x", "é"]
)
def test_a_name_that_cannot_be_one_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=f"NAME={name!r}: must be words"):
        main(["scheduler", name, "--directory", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "schedular",
            "mine",
            r"KIND='schedular' \(did you mean 'scheduler'\?\): must be one of task, scheduler",
        ),
        ("executor", "mine", "KIND='executor'.*: must be one of"),
        ("scheduler", "fcfs", "NAME='fcfs': quire has a scheduler of this name already"),
        ("scheduler", "plugins", "NAME='plugins': a package quire_plugins is installed already"),
    ],
)
def test_what_exists_already_or_not_at_all_is_refused(kind, name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main([kind, name, "--directory", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        main(["scheduler", "mine", "--directory", str(tmp_path)])
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        main(["scheduler", "mine", "--directory", str(tmp_path / "README.md")])
    assert (tmp_path / "README.md").read_text() == "mine"
