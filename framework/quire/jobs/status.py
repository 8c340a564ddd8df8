"""Whether a run is under way, done or failed: `status.json` in its directory, written by whoever runs it."""

from __future__ import annotations

import enum
import fcntl
import json
import logging
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from quire.errors import UserError
from quire.jobs.json_file import write_json

FILE = "status.json"
_LOCK = ".running"

_log = logging.getLogger(__name__)


class State(enum.StrEnum):
    """What became of a run."""

    missing = "missing"
    """Never started."""
    running = "running"
    done = "done"
    failed = "failed"
    """By an error, which the file has in one line."""
    interrupted = "interrupted"
    """From the keyboard."""
    cut = "cut"
    """Killed, or its machine went down: the file still says running, but nobody does."""


class Status:
    """A context around a run: says on entry that it is running and on exit how it ended.

    Raises UserError on entry if another process runs in the same directory. That is known by a lock, which
    the system takes back from a process that is killed.
    """

    def __init__(self, directory: Path, *, overrides: Sequence[str]) -> None:
        self._directory = directory
        self._content: dict[str, Any] = {
            "state": State.running.value,
            "error": None,
            "overrides": list(overrides),
            "started": _now(),
            "ended": None,
            "host": platform.node(),
            "pid": os.getpid(),
        }

    def __enter__(self) -> Status:
        self._lock = open(self._directory / _LOCK, "wb")
        if not _try_lock(self._lock):
            self._lock.close()
            raise UserError(f"{self._directory}: another process is running in it")
        write_json(self._directory / FILE, self._content)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = State.done
        if isinstance(error, Exception):
            state = State.failed
            message = str(error).strip().splitlines()
            self._content["error"] = ": ".join([type(error).__name__, *message[:1]])
        elif error is not None:
            state = State.interrupted
        self._content |= {"state": state.value, "ended": _now()}
        try:
            write_json(self._directory / FILE, self._content)
        except OSError as problem:
            _log.warning("cannot write %s to %s: %s", FILE, self._directory, problem.strerror)
        finally:
            (self._directory / _LOCK).unlink(missing_ok=True)
            self._lock.close()


def read_status(directory: Path) -> dict[str, Any]:
    """What the file says, its `state` a `State`. Raises UserError for a file that says something else."""
    path = directory / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        state = State(content["state"])
    except FileNotFoundError:
        return {"state": State.missing}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not the status of a run") from None
    if state is State.running and not _is_locked(directory / _LOCK):
        state = State.cut
    return content | {"state": state}


def _is_locked(path: Path) -> bool:
    try:
        with open(path, "rb+") as file:
            return not _try_lock(file)
    except FileNotFoundError:
        return False


def _try_lock(file: IO[bytes]) -> bool:
    """A record lock: unlike that of flock, no child inherits it, and it holds across NFS."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
