"""One arm: transformers' generate over padded static batches. Prints one JSON line.

A batch runs until its longest request is done; only the tokens that were asked for count. Requests are
batched in the order in which they come.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", required=True)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    began = time.perf_counter()

    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).eval()
    loaded = time.perf_counter()
    requests = json.loads(Path(arguments.requests).read_text())
    tokens = 0
    for start in range(0, len(requests), arguments.batch):
        batch = requests[start : start + arguments.batch]
        width = max(len(request["prompt"]) for request in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(batch):
            ids[row, width - len(request["prompt"]) :] = torch.tensor(request["prompt"])
            mask[row, width - len(request["prompt"]) :] = 1
        longest = max(request["output_tokens"] for request in batch)
        with torch.inference_mode():
            model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                min_new_tokens=longest,
                max_new_tokens=longest,
                pad_token_id=0,
            )
        tokens += sum(request["output_tokens"] for request in batch)
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "output_tokens": tokens,
                "seconds": ended - loaded,
                "tokens_per_second": tokens / (ended - loaded),
                "load_seconds": loaded - began,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
