"""quire as a wheel, away from its checkout: the configuration directory and the templates come along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAIN = "from quire.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(ROOT)], check=True
    )
    return site


def run(site: Path, directory: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_installed_package_that_runs(installed, tmp_path):
    code = "from quire.config import compose; print(compose.__file__, compose.config_directory())"
    module, conf = run(installed, tmp_path, "-c", code).split()
    assert Path(module).is_relative_to(installed)
    assert Path(conf) == installed / "quire" / "conf"


def test_it_composes_a_run(installed, tmp_path):
    shown = run(installed, tmp_path, "-c", MAIN, "scheduler=sarathi", "--cfg", "all", "-p", "hydra.run")
    assert "dir: outputs/" in shown


def test_it_writes_a_plugin(installed, tmp_path):
    run(installed, tmp_path, "-c", MAIN, "new-plugin", "scheduler", "mine")
    assert (tmp_path / "quire-mine" / "pyproject.toml").exists()


def test_it_has_the_chat_page(installed):
    page = installed / "quire" / "server" / "page" / "index.html"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
