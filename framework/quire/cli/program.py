"""The command line: `python run.py` and `quire` are this program.

A first word that names a command (`quire plugins`) runs it; anything else is a run, composed by Hydra. Exit
codes: 0 done, 1 something broke, 2 the user's mistake (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from quire.errors import UserError

COMMANDS = {
    "calibrate": "quire.cli.calibrate",
    "plugins": "quire.cli.plugins",
    "new-plugin": "quire.cli.new_plugin",
    "report": "quire.cli.report",
    "resume": "quire.cli.resume",
}
"""Each module has `main(arguments: list[str]) -> None`."""
COMMAND_GROUP = "quire_commands"
"""Entry-point group of the commands that distributions bring: each entry names such a `main`."""

_log = logging.getLogger("quire.cli")


def main() -> NoReturn:
    """Run what sys.argv says, and exit."""
    words = sys.argv[1:]
    try:
        if words == ["--version"]:
            print(f"quire {importlib.metadata.version('quire')}")
        elif words and (command := _command(words[0])) is not None:
            command(words[1:])
        else:
            _run(words)
    except UserError as error:
        _refuse(str(error))
    except CellFailed as error:
        print("quire: error: not every cell of the sweep succeeded, see above", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _command(word: str) -> Callable[[list[str]], None] | None:
    """The command of that name, this program's own or a distribution's; None if there is none."""
    if word in COMMANDS:
        return importlib.import_module(COMMANDS[word]).main
    if not _is_bare(word):
        return None
    found = importlib.metadata.entry_points(group=COMMAND_GROUP, name=word)
    return next(iter(found)).load() if found else None


def _is_bare(word: str) -> bool:
    """Whether it is neither an option nor an override."""
    return not word.startswith(("-", "+", "~")) and "=" not in word


class CellFailed(Exception):
    """A cell of a sweep failed, and said so when it did. The sweep goes on and ends with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _refuse(message: str) -> NoReturn:
    print(f"quire: error: {message}", file=sys.stderr)
    sys.exit(2)


def _run(words: list[str]) -> None:
    """Let Hydra compose and run a job, or show what it would be (--help, --cfg, --info, completion)."""
    import hydra

    from quire.config.complaints import explain
    from quire.config.compose import COMPLAINTS, CONFIG_NAME, config_directory, hydra_version, store
    from quire.registry import load_registry, near_miss

    if words and _is_bare(words[0]):
        commands = sorted({*COMMANDS, *importlib.metadata.entry_points(group=COMMAND_GROUP).names})
        hint = near_miss(words[0], commands)
        _refuse(f"{words[0]!r} is neither a command ({', '.join(commands)}){hint} nor KEY=VALUE; see --help")
    registry = load_registry()
    store(registry)
    if not {"-sc", "--shell-completion"} & set(words):
        for info in registry.broken():
            source = f"{info.distribution} {info.version}"
            print(
                f"quire: warning: {info.kind} {info.name!r} of {source} is skipped: {info.error}",
                file=sys.stderr,
            )
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    run = hydra.main(config_path=str(config_directory()), config_name=CONFIG_NAME, **hydra_version())
    command, sys.argv = sys.argv, [sys.argv[0], *options_first(words)]
    try:
        run(job_of(command))()
    except COMPLAINTS as error:
        if full_error or isinstance(error, UserError):
            raise
        _refuse(explain(error, registry))


def options_first(words: list[str]) -> list[str]:
    """The same options and overrides, as Hydra takes them: its parser refuses overrides on both sides of an
    option. Exits as it does if an option is unknown.
    """
    from hydra._internal.utils import get_args_parser

    overrides: list[str] = get_args_parser().parse_intermixed_args(words).overrides
    left = iter([*overrides, None])
    awaited = next(left)
    options: list[str] = []
    for word in words:
        if word == awaited:
            awaited = next(left)
        else:
            options.append(word)
    return [*options, *overrides]


def job_of(command: list[str]) -> Callable[[object], None]:
    """What Hydra calls with a composed configuration, in this process or in a launcher's, where `command`
    could not be found out any more.
    """
    return functools.update_wrapper(functools.partial(job, command=tuple(command)), job)


def job(composed: object, *, command: tuple[str, ...]) -> None:
    """One run, from its status in the directory of its results to its exit code."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from quire.config.compose import run_config
    from quire.jobs.json_file import write_json
    from quire.jobs.launch import Launch
    from quire.jobs.status import Status
    from quire.registry import load_registry
    from quire.run import Run

    assert isinstance(composed, DictConfig)
    hydra_config = HydraConfig.get()
    directory, overrides = Path(hydra_config.runtime.output_dir), tuple(hydra_config.overrides.task)
    in_sweep = hydra_config.mode is RunMode.MULTIRUN
    sweep = Path(hydra_config.sweep.dir).absolute() if in_sweep else None
    launch = Launch(command=command, overrides=overrides, sweep=sweep)
    cell = f"[{' '.join(overrides)}] " if sweep else ""
    try:
        with Status(directory, overrides=overrides):
            config, registry = run_config(composed), load_registry()
            run = Run(config=config, registry=registry, directory=directory, launch=launch)
            write_json(directory / "config.json", run.description)
            registry.create("task", config.task).run(run)
    except UserError as error:
        status = 2
        _log.error("quire: error: %s%s", cell, error)
    except Exception:
        status = 1
        _log.exception("quire: error: %sthe run broke", cell)
    else:
        return
    if sweep:
        raise CellFailed(status)
    sys.exit(status)
