"""Try real clients against a real server, each in an environment of its own.

    python tests/clients/run.py                      # all of them
    python tests/clients/run.py openai-3 lm-eval     # some

Ends with status 1 if anything failed. Environments are made once, under --into; vLLM's is that of
experiments/cpu_speed/install_peers.py, and without it `vllm-bench` is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogue import CLIENTS, Client
from environments import CACHE, Environments
from facts import EMBEDDING_MODEL, offline_facts, write_tasks
from results_table import record
from servers import served

SECONDS = 1800
"""Longest time for one client; one that takes longer hangs."""


def arguments() -> argparse.Namespace:
    names = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; none: all")
    parser.add_argument("--into", type=Path, default=CACHE / "clients", help="where environments go")
    parser.add_argument("--peers", type=Path, default=CACHE / "peers", help="where vLLM is installed")
    parser.add_argument(
        "--no-record", action="store_true", help="leave results.json and the table as they are"
    )
    given = parser.parse_args()
    if unknown := set(given.clients) - set(names):
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return given


def attempt(client: Client, python: Path, facts: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The outcome of a client's script: its version, and each check with what went wrong."""
    place = directory / client.name
    place.mkdir()
    facts_file, outcome_file, log = place / "facts.json", place / "outcome.json", place / "log.txt"
    facts_file.write_text(json.dumps({**facts, "directory": str(place)}))
    script = Path(__file__).parent / client.script
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": ""}
    with log.open("w") as output:
        try:
            subprocess.run(
                [str(python), str(script), str(facts_file), str(outcome_file)],
                cwd=place,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"version": None, "checks": {"ends": f"not within {SECONDS} s"}}
    if not outcome_file.exists():
        last = log.read_text().strip().splitlines()[-1:]
        return {"version": None, "checks": {"starts": last[0] if last else "no word"}}
    return json.loads(outcome_file.read_text())


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that servers end, too
    environments = Environments(directory=given.into, peers=given.peers)
    wanted = [client for client in CLIENTS if not given.clients or client.name in given.clients]
    pythons = {client: environments.python(client) for client in wanted}
    directory = Path(tempfile.mkdtemp(prefix="quire-clients-"))
    print(f"logs go to {directory}", flush=True)
    facts = offline_facts()
    outcomes: dict[str, dict[str, Any]] = {}
    write_tasks(directory / "tasks.jsonl")
    with (
        # The demo model was not trained to call tools, and its template does not say how.
        served("demo", "server.tool_format=hermes", name="demo", directory=directory) as url,
        served(str(EMBEDDING_MODEL), name="minilm", directory=directory) as embedding_url,
    ):
        facts |= {"url": url, "model": "demo", "embedding_url": embedding_url, "embedding_model": "minilm"}
        for client, python in pythons.items():
            if python is None:
                print(f"{client.name}: left out, as vLLM is not installed under {given.peers}", flush=True)
                continue
            outcomes[client.name] = outcome = attempt(client, python, facts, directory)
            failures = {name: why for name, why in outcome["checks"].items() if why is not None}
            print(f"{client.name} {outcome['version']}: {len(failures)} of {len(outcome['checks'])} failed")
            for name, why in failures.items():
                print(f"    {name}: {why}", flush=True)
    if not given.no_record:
        record(outcomes)
    return int(any(why is not None for outcome in outcomes.values() for why in outcome["checks"].values()))


if __name__ == "__main__":
    sys.exit(main())
