"""One arm of steps.py: times of quire's steps, batch by batch. Prints one JSON line.

All requests of a batch come at once, with fresh random prompts. `prefill_ms` is from their arrival to the
last one's first token; a decode step lasts from one commit to the next, everything between them included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
from arm import peaks

DECODE = 24
"""Decode steps of a round."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--decode", type=int, default=DECODE, help="decode steps of each round")
    parser.add_argument("--rounds", type=int, default=1, help="of each batch that are timed")
    parser.add_argument("--warm-rounds", type=int, default=1, help="of each batch that come before")
    parser.add_argument("overrides", nargs="*", help="as on quire's command line")
    arguments = parser.parse_args()

    from quire.config.compose import compose
    from quire.registry import load_registry
    from quire.run import Run

    registry = load_registry()
    config = compose([f"model={arguments.model}", "dtype=bfloat16", *arguments.overrides], registry)
    run = Run(config=config, registry=registry, directory=Path(tempfile.mkdtemp()))
    engine = run.engine(with_text=False)
    rng = np.random.Generator(np.random.PCG64(0))
    batches = {}
    for batch in arguments.batches:
        rounds = [
            time_round(engine, rng, batch, arguments.prompt, arguments.decode)
            for _ in range(arguments.warm_rounds + arguments.rounds)
        ]
        timed = rounds[arguments.warm_rounds :]
        batches[batch] = {key: [each[key] for each in timed] for key in timed[0]}
    engine.close()
    print(json.dumps({"batches": batches, "peak_rss_bytes": sum(peaks(os.getpid())) * 1024}))


def output_tokens(batch: int, prompt: int, decode: int = DECODE) -> int:
    """Of each request: the timed ones, and at least what the first decodes until the last has begun."""
    return decode + 4 + batch * prompt // 512


def time_round(engine, rng: np.random.Generator, batch: int, prompt: int, decode: int) -> dict:
    """Milliseconds of one round: the prompts, the median decode step, and that step's phases."""
    from quire.engine.request import Request, SamplingParams

    output = output_tokens(batch, prompt, decode)
    for index in range(batch):
        engine.add(
            Request(
                id=str(index),
                prompt_token_ids=tuple(rng.integers(0, engine.info.vocab_size, prompt).tolist()),
                sampling=SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True),
            )
        )
    records = []
    while engine.has_work:
        engine.step()
        records += engine.take_records()
    first = next(i for i, record in enumerate(records) if record.decode_sequences == batch)
    assert all(record.decode_sequences == batch for record in records[first : first + decode])
    prefilled = records[first - 1]
    steps = [
        (record, record.end - before.end)
        for before, record in zip(records[first - 1 :], records[first : first + decode], strict=False)
    ]
    phases = {name for record, _ in steps for name in record.phases}
    return {
        "prefill_ms": 1e3 * (prefilled.end - records[0].start),
        "decode_ms": 1e3 * statistics.median(seconds for _, seconds in steps),
        **{
            f"{name}_ms": 1e3 * statistics.median(record.phases[name] for record, _ in steps)
            for name in sorted(phases)
        },
    }


if __name__ == "__main__":
    main()
