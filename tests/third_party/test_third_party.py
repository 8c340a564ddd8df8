"""A stranger's distribution: installed by pip, then used like any plugin of quire's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE / "quire-shortest"
RUN_PY = HERE.parents[1] / "run.py"
PAGE = HERE.parents[1] / "docs" / "plugins.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A directory into which pip installed quire-shortest, with no network."""
    source, site = tmp_path_factory.mktemp("source") / SOURCE.name, tmp_path_factory.mktemp("site")
    shutil.copytree(SOURCE, source)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)], check=True
    )
    return site


def run(site: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True
    )


def test_it_serves_a_workload_with_its_option(installed, tmp_path):
    done = run(
        installed,
        tmp_path,
        str(RUN_PY),
        "scheduler=shortest",
        "scheduler.aging=3",
        "workload=synthetic",
        "workload.requests=6",
        "workload.prompt_mean=20",
        "workload.output_mean=5",
        "attention=sdpa",
        "ops=torch",
        "device=cpu",
        "engine.max_sequences=2",
    )
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["requests"] == 6
    record = json.loads((summary.parent / "config.json").read_text())
    assert record["config"]["scheduler"] == {"aging": 3.0}
    assert record["choices"]["scheduler"] == "shortest"
    assert record["distributions"]["quire-shortest"]["version"] == "0.3.0"


def test_it_is_listed_and_its_option_is_typed(installed, tmp_path):
    listed = run(installed, tmp_path, str(RUN_PY), "plugins", "scheduler", "--json")
    (plugin,) = [each for each in json.loads(listed.stdout) if each["name"] == "shortest"]
    assert plugin["distribution"] == "quire-shortest"
    assert plugin["description"] == "Of the prompts that wait, the shortest starts first."
    wrong = run(installed, tmp_path, str(RUN_PY), "scheduler=shortest", "scheduler.aging=abc")
    assert wrong.returncode == 2
    assert "scheduler.aging=abc: Value 'abc' of type 'str' could not be converted to Float" in wrong.stderr


def test_its_own_tests_pass_which_inherit_the_contract(installed, tmp_path):
    tests = tmp_path / "tests"
    shutil.copytree(SOURCE / "tests", tests)
    done = run(installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests))
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("file", ["quire_shortest.py", "pyproject.toml", "tests/test_shortest.py"])
def test_the_page_for_plugin_authors_shows_exactly_this_code(file):
    assert f"\n{(SOURCE / file).read_text()}```" in PAGE.read_text()
