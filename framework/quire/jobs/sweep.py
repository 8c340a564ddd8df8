"""A sweep of the past: its cells, from the multirun.yaml that Hydra left, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire.jobs.status import State, read_status


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One combination of a sweep."""

    number: int
    overrides: tuple[str, ...]
    subdir: str
    """Of its results, in the sweep's directory."""
    state: State
    error: str | None


def read_sweep(directory: Path) -> Any:
    """Hydra's own part of what the sweep was composed to.

    Raises UserError if `directory` is no sweep's, or if its cells do not follow from its overrides.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        recorded = OmegaConf.load(directory / "multirun.yaml").hydra
        sweeper = recorded.runtime.choices["hydra/sweeper"]
    except (OSError, YAMLError, OmegaConfBaseException, AttributeError, KeyError):
        raise UserError(f"{directory}: must be the directory of a sweep, with its multirun.yaml") from None
    if sweeper != "basic":
        raise UserError(
            f"{directory}: hydra/sweeper={sweeper} chose its cells as it went; only those of a sweep with "
            "hydra/sweeper=basic follow from its overrides"
        )
    if not Path(recorded.runtime.cwd).is_dir():
        raise UserError(f"{directory}: was started in {recorded.runtime.cwd}, which is no directory now")
    return recorded


def search_path(recorded: Any) -> Any:
    """Where Hydra looks for configurations: quire's own, then the directory that the sweep named with -cd."""
    from hydra._internal.utils import create_config_search_path

    from quire.config.compose import config_directory

    found = create_config_search_path(str(config_directory()))
    for source in recorded.runtime.config_sources:
        if source.schema == "file" and source.provider == "command-line":
            found.prepend(source.provider, f"file://{source.path}", anchor="schema")  # which must stay last
    return found


def sweep_overrides(recorded: Any, directory: Path) -> list[str]:
    """What composes the sweep again: its overrides, and its own directory for its results."""
    return [
        *(each for each in recorded.overrides.hydra if not each.startswith("hydra.sweep.dir=")),
        *recorded.overrides.task,
        f"hydra.sweep.dir={quoted(str(directory))}",
    ]


def sweep_cells(config: Any, loader: Any, directory: Path) -> list[Cell]:
    """All cells of the sweep that `config` is of, in its order, numbered from 0 as its launcher numbers them.

    Raises UserError for a directory that holds another cell than the sweep would put there now.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.utils import filter_overrides
    from omegaconf import open_dict

    preset = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides([*preset, *config.hydra.overrides.task])
    (combinations,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    cells: list[Cell] = []
    for number, overrides in enumerate(combinations):
        composed = loader.load_sweep_config(config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.num = composed.hydra.job.id = number
        HydraConfig.instance().set_config(composed)  # which `${hydra:...}` reads
        subdir = str(composed.hydra.sweep.subdir)
        status = read_status(directory / subdir)
        expected = list(filter_overrides(overrides))
        if status.get("overrides", expected) != expected:
            raise UserError(
                f"{directory / subdir}: is of {' '.join(status['overrides'])}; with the configuration as "
                f"it is now, the sweep would put {' '.join(expected)} there"
            )
        cells.append(
            Cell(
                number=number,
                overrides=tuple(overrides),
                subdir=subdir,
                state=status["state"],
                error=status.get("error"),
            )
        )
    return cells


def batches(cells: list[Cell], config: Any) -> list[list[Cell]]:
    """What to launch together: all cells, so that a launcher runs what it can side by side. But it numbers
    the jobs of a batch without gaps: where the configuration uses the number, cells that follow each other.
    """
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    texts = [OmegaConf.to_yaml(own, resolve=False), *(each for cell in cells for each in cell.overrides)]
    if not any("job.num" in text for text in texts):
        return [cells]
    runs = groupby(enumerate(cells), key=lambda placed: placed[1].number - placed[0])
    return [[cell for _, cell in run] for _, run in runs]


def quoted(text: str) -> str:
    """As Hydra's grammar quotes a string, whatever is in it."""
    escaped = text.replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{escaped}'"
