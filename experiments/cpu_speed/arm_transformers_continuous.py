"""One arm: transformers' continuous batching.

By default it takes nine tenths of the memory for KV, and fills it before it begins: here it has room for all
requests and no more. Its other options are as they come.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from arm import Serve, run_arm

PAGE = 256
KV_TOKENS = 64 * 1536


def load(arguments: argparse.Namespace) -> Serve:
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(page_size=PAGE, num_blocks=KV_TOKENS // PAGE),
    )
    manager.warmup()
    manager.start()

    def serve(requests: list[dict]) -> Iterator[tuple[int, int]]:
        for index, request in enumerate(requests):
            manager.add_request(
                request["prompt"],
                request_id=str(index),
                max_new_tokens=request["output_tokens"],
                eos_token_id=-1,
            )
        left = len(requests)
        while left:
            result = manager.get_result(timeout=1)
            if result is None:
                assert manager.is_running(), "its thread has ended"
            elif result.is_finished():
                left -= 1
                yield int(result.request_id), len(result.generated_tokens)

    return serve


if __name__ == "__main__":
    run_arm(load)
    os._exit(0)  # the manager's thread waits for more requests, and Python would wait for it
