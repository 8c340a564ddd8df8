"""schemathesis: requests made from the server's own OpenAPI description, right ones and wrong ones.

None may be answered with a 5xx or not at all, or with what the description does not say; and each route must
have answered enough of them, so that its inside was reached.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from checks import Facts, main

EXAMPLES = 100
"""Generated cases an operation; those that schemathesis makes from the bounds of each field come on top."""
AT_LEAST = 2000
"""Cases in all."""
SECONDS = 60
"""Longest time for an answer; one that takes longer hangs."""
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance")
CHECKS += ("response_headers_conformance", "response_schema_conformance")


@dataclass(frozen=True)
class Case:
    method: str
    path: str
    status: int


def fuzz(url: str, model: str, directory: Path, *options: str) -> list[Case]:
    """Every case that was sent. Raises AssertionError for one that was not answered as it should be."""
    report = directory / "cases.har"
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json", "--no-color"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--seed", "1"]
    command += ["--workers", "1"]  # with more, the parser of Python 3.11 fails at times (CPython's gh-106905)
    command += ["--request-timeout", str(SECONDS), "--report", "har", "--report-har-path", str(report)]
    command += ["--continue-on-failure", "--warnings", "off", "--phases", "examples,coverage,fuzzing"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "fuzz_hooks",
        "PYTHONPATH": str(Path(__file__).parent),
        "FUZZED_MODEL": model,
    }
    done = subprocess.run([*command, *options], cwd=directory, env=environment, check=False)
    entries = json.loads(report.read_text())["log"]["entries"]
    cases = [
        Case(each["request"]["method"], urlsplit(each["request"]["url"]).path, each["response"]["status"])
        for each in entries
    ]
    broken = [case for case in cases if not 200 <= case.status < 500]
    assert not broken, f"{len(broken)} of {len(cases)} cases were not answered, or with 5xx: {broken[0]}"
    assert done.returncode == 0, "schemathesis complains; its report is in the log"
    return cases


def told(cases: list[Case]) -> str:
    kinds = Counter(case.status // 100 for case in cases)
    return f"{len(cases)} cases: " + ", ".join(
        f"{count} of {kind}xx" for kind, count in sorted(kinds.items())
    )


def check_reached(cases: list[Case], *paths: str) -> None:
    answered = Counter(case.path for case in cases if case.method == "POST" and case.status == 200)
    for path in paths:
        assert answered[path] >= 20, f"{path} answered {answered[path]} cases only"


def generation(facts: Facts) -> str:
    directory = Path(facts.directory) / "generation"
    directory.mkdir()
    cases = fuzz(facts.url, facts.model, directory)
    assert len(cases) >= AT_LEAST, f"{len(cases)} cases only"
    check_reached(cases, "/v1/completions", "/v1/chat/completions", "/v1/responses", "/tokenize")
    return told(cases)


def embedding(facts: Facts) -> str:
    directory = Path(facts.directory) / "embedding"
    directory.mkdir()
    routes = ("--include-path-regex", "embeddings|score|rerank")
    cases = fuzz(facts.embedding_url, facts.embedding_model, directory, *routes)
    check_reached(cases, "/v1/embeddings", "/score", "/rerank")
    return told(cases)


if __name__ == "__main__":
    main("schemathesis", {"a model that generates": generation, "a model that embeds": embedding})
