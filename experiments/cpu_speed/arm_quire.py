"""One arm: quire, all requests at once. Prints one JSON line."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", required=True)
    parser.add_argument("overrides", nargs="*", help="as on quire's command line")
    arguments = parser.parse_args()
    began = time.perf_counter()

    from quire.config.compose import compose
    from quire.engine.request import Request, SamplingParams
    from quire.registry import load_registry
    from quire.run import Run

    registry = load_registry()
    config = compose([f"model={arguments.model}", "dtype=bfloat16", *arguments.overrides], registry)
    run = Run(config=config, registry=registry, directory=Path(tempfile.mkdtemp()))
    engine = run.engine(with_text=False)
    loaded = time.perf_counter()
    for index, request in enumerate(json.loads(Path(arguments.requests).read_text())):
        engine.add(
            Request(
                id=str(index),
                prompt_token_ids=tuple(request["prompt"]),
                sampling=SamplingParams(temperature=0.0, max_tokens=request["output_tokens"]),
                forced_output_tokens=request["output_tokens"],
            )
        )
    tokens, first, phases = 0, None, dict[str, float]()
    schedule = 0.0
    while engine.has_work:
        for output in engine.step():
            tokens += len(output.token_ids)
            first = first or time.perf_counter()
        for record in engine.take_records():
            schedule += record.schedule_seconds
            for name, seconds in record.phases.items():
                phases[name] = phases.get(name, 0.0) + seconds
    ended = time.perf_counter()
    engine.close()
    assert first is not None
    print(
        json.dumps(
            {
                "output_tokens": tokens,
                "seconds": ended - loaded,
                "tokens_per_second": tokens / (ended - loaded),
                "load_seconds": loaded - began,
                "start_to_first_token": first - began,
                "phases": phases | {"schedule": schedule},
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
