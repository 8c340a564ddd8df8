"""What HTTP costs: the same requests offline, and streamed by the server.

    python experiments/serving_overhead/measure.py

Pairs take turns on the bundled model, all in processes of their own, with the same number of requests in
flight at any time: `offline` steps an engine; `http` streams from `task=serve`, read by a client that shares
the machine. One pair has the defaults, one shorter answers, one a single thread in both engines, and one a
server that sends each token at once. Ratios and differences are those of two neighbours in time.

A turn in which somebody else used more than `--others` of the machine is played again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms import Arm, http_arm, offline_arm
from others import Others

from quire.jobs.provenance import command_line, commit_of, describe_machine

HERE = Path(__file__).parent
_MOST_LOST, _MOST_ADDED_MS = 0.10, 15.0
"""What may be lost of the throughput, and added to the median time to first token."""
_MOST_TURNS = 5
"""Turns at most, in those wanted."""

Turn = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """What sets a pair apart: options of both engines, those of the server alone, how long answers are."""

    both: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    answers: str = "conversation"


PAIRS = {
    "default": Options(),
    "short answers": Options(answers="short"),
    "1 thread": Options(both=("engine.threads=1",)),
    "each token": Options(server=("server.limits.stream_pieces_per_second=1e9",)),
}


def measure(arguments: argparse.Namespace) -> tuple[dict[str, list[Turn]], int]:
    """The turns of each pair in which the machine was quiet, and how many others there were."""
    common = [f"engine.max_sequences={arguments.concurrency}", *arguments.overrides]
    turns: dict[str, list[Turn]] = {name: [] for name in PAIRS}
    disturbed = 0
    with ExitStack() as stack:
        offline: dict[Sequence[str], Arm] = {}
        arms: dict[str, dict[str, Arm]] = {}
        for name, options in PAIRS.items():
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            own = [*options.both, *options.server, *arguments.http_overrides]
            http = stack.enter_context(http_arm(directory, *common, *own))
            if options.both not in offline:
                offline[options.both] = stack.enter_context(offline_arm(*common, *options.both))
            arms[name] = {"offline": offline[options.both], "http": http}
        for number in range(_MOST_TURNS * arguments.repeats + 1):
            for name, pair in arms.items():
                if len(turns[name]) == arguments.repeats:
                    continue
                turn = play_turn(name, pair, number, arguments)
                if not number:
                    continue  # it warms up
                if max(result["others"] for result in turn.values()) <= arguments.others:
                    turns[name].append(turn)
                else:
                    disturbed += 1
    if any(len(each) < arguments.repeats for each in turns.values()):
        raise SystemExit(
            f"others used more than {arguments.others:.0%} of the machine in {disturbed} turns: "
            f"too few are left of {arguments.repeats} wanted for each pair"
        )
    return turns, disturbed


def play_turn(name: str, pair: dict[str, Arm], number: int, arguments: argparse.Namespace) -> Turn:
    """Both arms, one after the other; every other time in the opposite order."""
    turn: Turn = {}
    for which in sorted(pair, reverse=number % 2 == 1):
        others, mine = Others(), time.process_time()
        result = pair[which].play(arguments.requests, number, arguments.concurrency, PAIRS[name].answers)
        theirs = sum(seconds for process, seconds in result["cpu_seconds"].items() if process != "client")
        result["others"] = others.share(theirs + time.process_time() - mine)
        turn[which] = result
        cpu = ", ".join(f"{process} {seconds:.2f}" for process, seconds in result["cpu_seconds"].items())
        print(
            f"{name:13} {which:7} {result['tokens_per_second']:8,.0f} tokens/s, first token "
            f"{result['first_token_ms']:5.1f} ms, CPU s {cpu}, others {result['others']:.0%}",
            flush=True,
        )
    return turn


def spread(values: list[float]) -> dict[str, float]:
    """The median, with the least and the most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summarise(turns: list[Turn]) -> dict[str, Any]:
    """Of a pair: what is kept and what is added, and the figures of each arm."""
    summary: dict[str, Any] = {
        "throughput_kept": spread(
            [turn["http"]["tokens_per_second"] / turn["offline"]["tokens_per_second"] for turn in turns]
        ),
        "added_first_token_ms": spread(
            [turn["http"]["first_token_ms"] - turn["offline"]["first_token_ms"] for turn in turns]
        ),
    }
    for which in ("offline", "http"):
        results = [turn[which] for turn in turns]
        summary[which] = {
            key: spread([each[key] for each in results])
            for key in ("tokens_per_second", "first_token_ms", "tokens_per_event")
            if key in results[0]
        }
        summary[which]["cpu_ms_per_1000_tokens"] = {
            process: spread([each["cpu_seconds"][process] * 1e6 / each["tokens"] for each in results])
            for process in results[0]["cpu_seconds"]
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=256, help="a turn and arm")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7, help="quiet turns of each pair")
    parser.add_argument("--others", type=float, default=0.04, help="most that others may use, of all CPUs")
    parser.add_argument("--overrides", nargs="*", default=[], help="for all arms")
    parser.add_argument("--http-overrides", nargs="*", default=[], help="for the servers alone")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    turns, disturbed = measure(arguments)
    pairs = {name: summarise(each) for name, each in turns.items()}
    kept, added = (pairs["default"][key]["median"] for key in ("throughput_kept", "added_first_token_ms"))
    report = {
        "command": command_line("experiments/serving_overhead/measure.py"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "holds": kept >= 1 - _MOST_LOST and added <= _MOST_ADDED_MS,
        "disturbed_turns": disturbed,
        "pairs": pairs,
        "turns": turns,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, pair in pairs.items():
        kept, added = pair["throughput_kept"], pair["added_first_token_ms"]
        print(
            f"{name}: {kept['median']:.1%} [{kept['least']:.1%}, {kept['most']:.1%}] of the throughput kept, "
            f"first token {added['median']:+.1f} ms [{added['least']:+.1f}, {added['most']:+.1f}]"
        )


if __name__ == "__main__":
    main()
