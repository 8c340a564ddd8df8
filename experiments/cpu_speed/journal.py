"""Results of a long run, each written as soon as it is measured, so that a run that was cut off can go on.

A file of JSON lines: the first says which run it is, every other one holds what an arm gave in a round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from quire.errors import UserError
from quire.jobs.jsonl import JsonLinesWriter, drop_partial_line, numbered_lines
from quire.jobs.provenance import command_line, commit_of, describe_machine

DIRECTORY = Path(__file__).parents[2] / "outputs" / "cpu_speed"
ELSEWHERE = ("out", "peers", "fresh")
"""Options that do not change what is measured."""


class Journal:
    """What is measured of the run that `head` describes. A file of that run is gone on with; of another one,
    which differs in more than its `command`, it raises UserError if there are results in it, unless `fresh`.
    """

    def __init__(self, path: Path, *, head: Mapping[str, Any], fresh: bool = False) -> None:
        self.path = path
        self.head: dict[str, Any] = json.loads(json.dumps(head))
        self._results: dict[tuple[int, str], dict] = {}
        lines = [] if fresh else kept_lines(path)
        if len(lines) > 1:
            kept, *results = lines
            others = list(differences(kept, self.head | {"command": kept["command"]}))
            if others:
                raise UserError(
                    f"{path} is of another run, `{kept['command']}`: {'; '.join(others)}; --fresh discards "
                    "its results, an --out of another name leaves them"
                )
            self.head = kept
            self._results = {(each["round"], each["arm"]): each["result"] for each in results}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._append(self.head)

    def __len__(self) -> int:
        """How many results there are."""
        return len(self._results)

    def turns(
        self, arms: Iterable[str], *, rounds: int, measure: Callable[[str], dict]
    ) -> Iterator[tuple[int, str, dict]]:
        """Round (from 1), arm and result, in the order in which arms take turns: every other round in the
        opposite one. Those that are missing are measured, and are in the file before they are given out.
        """
        names = list(arms)
        for turn in range(1, rounds + 1):
            for name in names[:: 1 if turn % 2 else -1]:
                if (turn, name) not in self._results:
                    result = measure(name)
                    self._append({"round": turn, "arm": name, "result": result})
                    self._results[turn, name] = result
                yield turn, name, self._results[turn, name]

    def provenance(self, script: Path) -> dict[str, Any]:
        """Command, commit and machine, for the report. The commit is `-dirty` also if files changed while the
        run lasted.
        """
        commit = self.head["commit"]
        if commit is not None and any(self.head[key] != now for key, now in sources_of(script).items()):
            commit = f"{commit.removesuffix('-dirty')}-dirty"
        return {"command": self.head["command"], "commit": commit, "machine": self.head["machine"]}

    def remove(self) -> None:
        """To be called when the report is written: the same command measures anew then."""
        self.path.unlink()

    def _append(self, line: Mapping[str, Any]) -> None:
        with closing(JsonLinesWriter(self.path)) as writer:
            writer.write([line])


def open_journal(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    *,
    script: Path,
    versions: Mapping[str, Any],
) -> Journal:
    """That of this call of `script`, named as its report is; the program ends if it is another run's.

    `versions` are those of the engines: results of two do not belong to one report.
    """
    head = {
        "command": command_line(f"experiments/cpu_speed/{script.name}"),
        "options": {name: value for name, value in vars(arguments).items() if name not in ELSEWHERE},
        **sources_of(script),
        "machine": describe_machine(),
        "python": platform.python_version(),
        "versions": versions,
    }
    try:
        journal = Journal(DIRECTORY / f"{arguments.out.stem}.jsonl", head=head, fresh=arguments.fresh)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    if len(journal):
        print(f"going on: {len(journal)} results are in {journal.path}", flush=True)
    return journal


def sources_of(script: Path) -> dict[str, str | None]:
    """The commit that `script` is of, and if it is `-dirty` a digest of what is changed since."""
    commit = commit_of(script)
    changes = None
    if commit is not None and commit.endswith("-dirty"):
        command = ["git", "-C", str(script.parent), "diff", "--no-ext-diff", "--no-color", "--binary", "HEAD"]
        done = subprocess.run(command, capture_output=True, check=True)
        changes = hashlib.sha256(done.stdout).hexdigest()[:16]
    return {"commit": commit, "uncommitted_changes": changes}


def kept_lines(path: Path) -> list[dict]:
    """The whole lines of a file, if there is one. What a kill left of a last one is cut off."""
    if not path.exists():
        return []
    drop_partial_line(path)
    lines = []
    for number, raw in numbered_lines(path):
        try:
            lines.append(json.loads(raw))
        except ValueError:
            raise UserError(f"{path}: line {number} is no JSON; --fresh discards the file") from None
    return lines


def differences(kept: Any, now: Any, name: str = "") -> Iterator[str]:
    """Where two descriptions differ, each place in words."""
    if isinstance(kept, dict) and isinstance(now, dict):
        for key in kept | now:
            yield from differences(kept.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif kept != now:
        yield f"{name} was {json.dumps(kept)} and is {json.dumps(now)}"
