"""Commands of the program: its own, and those that distributions bring by the group `quire_commands`."""

import importlib.metadata

import pytest

from quire.cli import program
from quire.errors import UserError


def test_a_distribution_brings_a_command(monkeypatch):
    entry = importlib.metadata.EntryPoint(
        name="say", value="quire_plugins.commands.tune_kernels:main", group=program.COMMAND_GROUP
    )
    entries = importlib.metadata.EntryPoints([entry])
    monkeypatch.setattr(program.importlib.metadata, "entry_points", lambda **chosen: entries.select(**chosen))
    from quire_plugins.commands.tune_kernels import main

    assert program._command("say") is main
    assert program._command("sey") is None


def test_commands_of_its_own_come_first():
    from quire.cli.plugins import main

    assert program._command("plugins") is main


@pytest.mark.parametrize("word", ["scheduler=fcfs", "--help", "+a=1", "~b", "-cn"])
def test_options_and_overrides_are_no_commands(word):
    assert program._command(word) is None


def test_quire_brings_tune_kernels(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = program._command("tune-kernels")
    assert command is not None
    with pytest.raises(UserError, match="this machine shows no CUDA device to time kernels on"):
        command([])
