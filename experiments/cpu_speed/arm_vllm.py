"""One arm: vLLM on the CPU, in bf16, its other options as they come."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from arm import Serve, run_arm

KV_GIB = 4


def make_engine(model: str):
    """Its offline engine, without a tokenizer: prompts are token ids and outputs too."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(KV_GIB)
    os.environ["HF_HUB_OFFLINE"] = "1"
    from vllm import LLM

    return LLM(model=model, dtype="bfloat16", skip_tokenizer_init=True, seed=0).llm_engine


def add(engine, index: int, prompt: list[int], output_tokens: int) -> None:
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True, detokenize=False)
    engine.add_request(str(index), {"prompt_token_ids": prompt}, params)


def load(arguments: argparse.Namespace) -> Serve:
    engine = make_engine(arguments.model)

    def serve(requests: list[dict]) -> Iterator[tuple[int, int]]:
        for index, request in enumerate(requests):
            add(engine, index, request["prompt"], request["output_tokens"])
        known = [0] * len(requests)
        while engine.has_unfinished_requests():
            for output in engine.step():
                index, tokens = int(output.request_id), len(output.outputs[0].token_ids)
                yield index, tokens - known[index]  # an output holds all tokens so far
                known[index] = tokens

    return serve


if __name__ == "__main__":
    run_arm(load)
