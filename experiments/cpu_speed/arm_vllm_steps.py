"""One arm of steps.py: times of vLLM's steps, batch by batch, as arm_steps.py takes quire's."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from itertools import pairwise

from arm import peaks
from arm_vllm import add, make_engine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--decode", type=int, default=24, help="decode steps of each round")
    parser.add_argument("--rounds", type=int, default=1, help="of each batch that are timed")
    parser.add_argument("--warm-rounds", type=int, default=1, help="of each batch that come before")
    arguments = parser.parse_args()
    engine = make_engine(arguments.model)
    rng = random.Random(0)
    batches = {}
    for batch in arguments.batches:
        rounds = [
            time_round(engine, rng, batch, arguments.prompt, arguments.decode)
            for _ in range(arguments.warm_rounds + arguments.rounds)
        ]
        timed = rounds[arguments.warm_rounds :]
        batches[batch] = {key: [each[key] for each in timed] for key in timed[0]}
    print(json.dumps({"batches": batches, "peak_rss_bytes": sum(peaks(os.getpid())) * 1024}), flush=True)


def time_round(engine, rng: random.Random, batch: int, prompt: int, decode: int) -> dict:
    """Milliseconds of one round: from the arrival of all prompts to the last one's first token, and the
    median time from one step's end to the next while all of them decode.
    """
    vocab = engine.model_config.get_vocab_size()
    meanwhile = batch * prompt // 1024  # tokens that the first gets before the last prompt is done, at most
    began = time.perf_counter()
    for index in range(batch):
        add(engine, index, [rng.randrange(vocab) for _ in range(prompt)], meanwhile + decode + 2)
    ends, started = [], set()
    while engine.has_unfinished_requests():
        outputs = engine.step()
        started |= {output.request_id for output in outputs}
        if len(started) == batch and len(ends) <= decode and len(outputs) == batch:
            ends.append(time.perf_counter())
    assert len(ends) == decode + 1, f"{len(ends) - 1} steps with all sequences, not {decode}"
    steps = [later - earlier for earlier, later in pairwise(ends)]
    return {"prefill_ms": 1e3 * (ends[0] - began), "decode_ms": 1e3 * statistics.median(steps)}


if __name__ == "__main__":
    main()
