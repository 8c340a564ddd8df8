"""The record of a run for Weights & Biases, beside the files of `tracker=jsonl`, which remain the record."""

from __future__ import annotations

import enum
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.config.checks import check_above_zero
from quire.errors import UserError
from quire_plugins.trackers.flat import flat
from quire_plugins.trackers.request_sample import COLUMNS, LATENCIES
from quire_plugins.trackers.series import SeriesConfig, SeriesTracker

if TYPE_CHECKING:
    from wandb import Run

_FILES = ("config.json", "requests.jsonl", "steps.jsonl", "summary.json", "trace.json")
_BINS = 64
_CDF_POINTS = 200

_logger = logging.getLogger(__name__)


class WandbMode(enum.Enum):
    """offline: to the run's directory, for `wandb sync` later. online: to the server as the run goes on."""

    offline = "offline"
    online = "online"


@dataclass
class WandbConfig(SeriesConfig):
    """Options of `tracker=wandb`: those of `tracker=jsonl`, and these."""

    project: str = "quire"
    entity: str | None = None
    """A user or a team; the account's default if null."""
    mode: WandbMode = WandbMode.offline
    """Online falls back to offline, and says so, where there is no key or no server answers."""
    group: str | None = None
    """Runs of a sweep are a group of its name if this is null."""
    name: str | None = None
    """Of the run; its overrides if null."""
    tags: list[str] = field(default_factory=list[str])
    table_rows: int = 10_000
    """Samples of requests in the table at most; of more, a random part. 0: no table, histograms, plots."""
    artifact: bool = True
    """Keep the run's files as an artifact too."""
    system_metrics: bool = False
    """Let W&B watch processor and memory, which itself takes some of both."""
    init_seconds: float = 5.0
    """How long a server may take to answer at the start."""
    finish_seconds: float = 60.0
    """How long the rest of an upload may take at the end. What is missing then stays in the run's directory,
    for `wandb sync`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.project:
            raise UserError("tracker.project='': must be the name of a project")
        check_above_zero("tracker", self, "init_seconds", "finish_seconds", what="number of seconds")
        if self.table_rows < 0:
            raise UserError(f"tracker.table_rows={self.table_rows}: must be at least 0")


class WandbTracker(SeriesTracker):
    """Config, choices, commits and versions; a time series of one point an interval; a table of requests with
    histograms and plots; the summary, its keys joined by slashes (ttft_s/p99); an artifact of the files.

    Nothing here holds up a run: a server has `init_seconds` to answer and `finish_seconds` to take the rest,
    and if W&B's own process dies, one warning says so and the run goes on with the files alone.
    """

    Config = WandbConfig

    def __init__(self, *, config: WandbConfig) -> None:
        super().__init__(config=config, sample_rows=config.table_rows)
        self._config = config
        self._run: Run | None = None

    def open(self, directory: Path, description: Mapping[str, Any]) -> None:
        self._directory = directory
        run = self._run = self._init(description)
        run.define_metric("serving/time_s")
        run.define_metric("serving/*", step_metric="serving/time_s")

    def add_row(self, row: Mapping[str, float]) -> None:
        self._send(lambda run: run.log({f"serving/{name}": value for name, value in row.items()}))

    def conclude(self, summary: Mapping[str, Any]) -> None:
        if self._config.table_rows and self.sample.seen:
            self._send(lambda run: run.log(self._charts()))
        self._send(lambda run: run.summary.update(flat(summary)))
        if self._config.artifact:
            self._send(self._log_artifact)
        self._send(lambda run: run.finish(exit_code=1 if summary.get("interrupted") else 0))

    def _init(self, description: Mapping[str, Any]) -> Run:
        """Begin online if that is wanted and possible, else offline."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        why_not = ""
        if self._config.mode is WandbMode.online:
            try:
                if not wandb.login(prompt=False, verify=False):
                    raise wandb.errors.UsageError("no API key is configured")
                run = wandb.init(mode="online", **self._arguments(description))
                _logger.info("W&B: %s", run.url)
                return run
            except (wandb.Error, OSError) as error:
                why_not = f" ({(str(error) or 'no server answers').splitlines()[0]})"
        try:
            run = wandb.init(mode="offline", **self._arguments(description))
        except (wandb.Error, OSError) as error:
            raise UserError(f"tracker=wandb: W&B does not start: {error}") from error
        _logger.info("W&B: offline%s; to upload: wandb sync %s", why_not, Path(run.dir).parent)
        return run

    def _arguments(self, description: Mapping[str, Any]) -> dict[str, Any]:
        import wandb

        config, sweep = self._config, description.get("sweep")
        settings = wandb.Settings(
            init_timeout=config.init_seconds,
            finish_timeout=config.finish_seconds,
            silent=True,
            console="off",
            disable_git=True,  # the description has the commits, those of plugins too
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=not config.system_metrics,
        )
        commit = description.get("distributions", {}).get("quire", {}).get("commit")
        return {
            "project": config.project,
            "entity": config.entity,
            "group": config.group or ("/".join(Path(sweep).parts[-2:]) if sweep else None),
            "name": config.name or " ".join(description.get("overrides", ())) or None,
            "job_type": description.get("choices", {}).get("task"),
            "tags": list(config.tags),
            "config": {**description, "commit": commit},
            "dir": self._directory,
            "settings": settings,
            "reinit": "create_new",  # a cell of a sweep is a run of its own, in the same process
        }

    def _charts(self) -> dict[str, Any]:
        """Table, histograms and plots, in one call of W&B's."""
        import numpy as np
        import wandb

        table = wandb.Table(columns=list(COLUMNS), data=self.sample.rows())
        shown: dict[str, Any] = {"requests/table": table}
        quantiles_Q = np.linspace(0, 1, _CDF_POINTS)
        curves: dict[str, list[float]] = {}
        for name in LATENCIES:
            if values := self.sample.completed(name):
                shown[f"requests/{name}"] = wandb.Histogram(np_histogram=np.histogram(values, bins=_BINS))
                curves[name] = np.quantile(values, quantiles_Q).tolist()
        for names in (("queue_s", "ttft_s", "e2e_s"), ("tpot_s", "itl_max_s", "normalized_latency_s")):
            found = [name for name in names if name in curves]
            if found:
                shown[f"plots/{found[-1]}_cdf"] = wandb.plot.line_series(
                    [curves[name] for name in found],
                    list(itertools.repeat(quantiles_Q.tolist(), len(found))),
                    keys=found,
                    title="share of requests within",
                    xname="seconds",
                )
        shown["plots/ttft_by_prompt"] = wandb.plot.scatter(
            table, "prompt_tokens", "ttft_s", title="TTFT by prompt length"
        )
        return shown

    def _log_artifact(self, run: Run) -> None:
        import wandb

        artifact = wandb.Artifact(f"run-{run.id}", type="quire-run")
        for name in _FILES:
            if (self._directory / name).exists():
                artifact.add_file(str(self._directory / name), policy="immutable")  # no second copy
        run.log_artifact(artifact)

    def _send(self, action: Callable[[Run], object]) -> None:
        """Do something with W&B. If its process is gone, warn once and do nothing from then on."""
        import wandb

        if self._run is None:
            return
        try:
            action(self._run)
        except (wandb.Error, OSError) as error:
            _logger.warning("W&B: %s; the run goes on, its files in %s are whole", error, self._directory)
            self._run = None
