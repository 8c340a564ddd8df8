"""One arm: transformers' generate over padded static batches.

A batch runs until its longest request is done; only the tokens that were asked for count. Requests are
batched in the order in which they come.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from arm import Serve, run_arm

BATCH = 16


def load(arguments: argparse.Namespace) -> Serve:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def generate(batch: list[dict]) -> None:
        width = max(len(request["prompt"]) for request in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, width - len(request["prompt"]) :] = torch.tensor(request["prompt"])
            mask[row, width - len(request["prompt"]) :] = 1
        longest = max(request["output_tokens"] for request in batch)
        made = model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=longest,
            max_new_tokens=longest,
            pad_token_id=0,
        )
        assert made.shape[1] == width + longest

    def serve(requests: list[dict]) -> Iterator[tuple[int, int]]:
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            generate(batch)
            for row, request in enumerate(batch):
                yield start + row, request["output_tokens"]

    return serve


if __name__ == "__main__":
    run_arm(load)
