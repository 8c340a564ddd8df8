"""What each client's script shares: what it is told, and how it reports.

A script runs in its client's own environment, so this uses the standard library only. Its arguments are a
file with the facts and one for the outcome.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, eq=False)
class Facts:
    """Where the servers are, and what a client has to get from them, as made without any server."""

    url: str
    """Of the server of the demo model."""
    model: str
    model_directory: str
    """With the tokenizer, for clients that count tokens."""
    embedding_url: str
    embedding_model: str
    directory: str
    """For files of the script's own."""
    prompt: str
    question: str
    max_tokens: int
    completion: str
    """What greedily continues the prompt."""
    reply: str
    """The greedy answer to the question, asked as a chat."""
    texts: list[str]
    vectors: list[list[float]]
    """The embeddings of the texts."""

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.question}]

    def check_vectors(self, vectors: list[list[float]]) -> None:
        """Equal but for float32's rounding."""
        equal(len(vectors), len(self.vectors))
        for ours, theirs in zip(vectors, self.vectors, strict=True):
            equal(len(ours), len(theirs))
            furthest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            assert furthest < 1e-4, f"vectors differ by {furthest}"


def equal(found: object, expected: object) -> None:
    assert found == expected, f"{found!r} instead of {expected!r}"


def run(*command: str | Path, cwd: str | Path) -> None:
    """A command of the client's; what it prints goes to the log."""
    done = subprocess.run(command, cwd=cwd, check=False)
    assert done.returncode == 0, f"{Path(command[0]).name} ended with status {done.returncode}"


def main(distribution: str, checks: Mapping[str, Callable[[Facts], str | None]]) -> None:
    """Do all the checks; one may return what there is to say of it.

    The outcome is {"version", "checks": {name: null, or what went wrong}, "notes": {name: what was said}}.
    """
    facts_file, outcome_file = map(Path, sys.argv[1:])
    facts = Facts(**json.loads(facts_file.read_text()))
    failures: dict[str, str | None] = {}
    notes: dict[str, str] = {}
    for name, check in checks.items():
        try:
            if note := check(facts):
                notes[name] = note
            failures[name] = None
        except Exception as error:
            traceback.print_exc()
            failures[name] = f"{type(error).__name__}: {error}"
    outcome = {"version": importlib.metadata.version(distribution), "checks": failures, "notes": notes}
    outcome_file.write_text(json.dumps(outcome))
