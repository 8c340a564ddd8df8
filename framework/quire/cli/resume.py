"""`quire resume SWEEP_DIR`: run the cells of a sweep that are missing, failed or were cut short."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire.jobs.status import State
from quire.jobs.sweep import Cell, batches, quoted, read_sweep, search_path, sweep_cells, sweep_overrides

_LEFT_ALONE = (State.done, State.running)


def main(arguments: Sequence[str]) -> None:
    """Resume, or with --dry-run only list.

    Raises UserError for a directory that is no sweep's, and CellFailed if a cell fails again.
    """
    parser = argparse.ArgumentParser(
        prog="quire resume",
        description="Run the cells of a sweep that are missing, failed or were cut short, each with the "
        "overrides, the launcher and the directory that it had. Cells that are done or running stay.",
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP_DIR", help="such as multirun/DATE/TIME")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and their states, run none")
    options = parser.parse_args(arguments)
    resume(options.sweep.absolute(), dry_run=options.dry_run)


def resume(directory: Path, *, dry_run: bool) -> None:
    """Compose the sweep of `directory` again, where it was started, and launch what it lacks."""
    import hydra
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.core.utils import configure_log
    from hydra.types import HydraContext, RunMode

    from quire.cli.program import job_of
    from quire.config.complaints import explain
    from quire.config.compose import COMPLAINTS, config_directory, hydra_version, store
    from quire.registry import load_registry

    recorded, registry = read_sweep(directory), load_registry()
    store(registry)
    os.chdir(recorded.runtime.cwd)
    results: list[Any] = []
    job = {"job_name": recorded.job.name}
    try:
        with hydra.initialize_config_dir(str(config_directory()), **job, **hydra_version()):
            GlobalHydra.instance().clear()  # the context restores what was before; this one has a longer path
            composer = Hydra.create_main_hydra2(recorded.job.name, search_path(recorded))
            config = composer.compose_config(
                config_name=recorded.job.config_name,
                overrides=sweep_overrides(recorded, directory),
                run_mode=RunMode.MULTIRUN,
            )
            cells = sweep_cells(config, composer.config_loader, directory)
            missing = [cell for cell in cells if cell.state not in _LEFT_ALONE]
            for cell in cells:
                print(_line(cell))
            print(f"{directory}: {_count(cells)}; {len(missing)} to run", flush=True)
            if dry_run or not missing:
                return
            configure_log(config.hydra.hydra_logging, config.hydra.verbose)
            context = HydraContext(config_loader=composer.config_loader, callbacks=Callbacks(config))
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=job_of(sys.argv), config=config
            )
            for batch in batches(missing, config):
                overrides = [[*cell.overrides, f"hydra.sweep.subdir={quoted(cell.subdir)}"] for cell in batch]
                results += launcher.launch(overrides, initial_job_idx=batch[0].number)
    except COMPLAINTS as error:
        if isinstance(error, UserError):
            raise
        raise UserError(explain(error, registry)) from error
    for result in results:
        _ = result.return_value  # raises what the cell raised


def _line(cell: Cell) -> str:
    error = f"  ({cell.error})" if cell.state is State.failed and cell.error else ""
    return f"#{cell.number} {cell.state:<11} {' '.join(cell.overrides)}{error}"


def _count(cells: list[Cell]) -> str:
    states = Counter(cell.state for cell in cells)
    return ", ".join(f"{states[state]} {state}" for state in State if states[state])
