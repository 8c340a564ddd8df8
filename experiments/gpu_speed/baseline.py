"""transformers' continuous batching, with the same checkpoint and requests."""

from __future__ import annotations

import time

import torch
from azure import AzureRequests, azure_requests
from box import Box
from checkpoint import shape_of


def measure(box: Box) -> None:
    """Serves until all requests have ended or the time is over; tokens count as they come.

    Cut off, it has its batch full to the last moment, which flatters it: a whole run ends with few sequences.
    """
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    shape = shape_of(dry=box.dry)
    requests = azure_requests(8 if box.dry else 512, vocab=shape.vocab, dry=box.dry)
    model = AutoModelForCausalLM.from_pretrained(box.model, dtype=torch.bfloat16).eval().to(box.device)
    sizes = {"num_blocks": 16} if box.dry else {"max_memory_percent": 0.9}
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(**sizes),
    )
    manager.start()
    _add(manager, [(requests[0][0], 2)], "first")  # whatever the first steps cost is not counted
    _collect(manager, 1, until=time.perf_counter() + box.left)
    began = time.perf_counter()
    _add(manager, requests, "request", streaming=True)
    tokens, ended, prompts = _collect(manager, len(requests), until=began + box.left - 5)
    seconds = time.perf_counter() - began
    box.row(
        what="offline", arm="transformers", seconds=seconds, output_tokens=tokens, prompt_tokens=prompts,
        ended=ended, whole=ended == len(requests),
    )  # fmt: skip


def _add(manager, requests: AzureRequests, name: str, *, streaming: bool = False) -> None:
    for index, (prompt, output) in enumerate(requests):
        manager.add_request(
            list(prompt),
            request_id=f"{name}-{index}",
            max_new_tokens=output,
            streaming=streaming,
            eos_token_id=-1,
        )


def _collect(manager, count: int, *, until: float) -> tuple[int, int, int]:
    """(tokens generated, requests ended, prompt tokens of those that began) until `until`."""
    tokens: dict[str, int] = {}
    prompts: dict[str, int] = {}
    ended = 0
    while ended < count and (left := until - time.perf_counter()) > 0:
        result = manager.get_result(timeout=min(left, 1.0))
        if result is None:
            if not manager.is_running():
                raise RuntimeError("transformers' thread has ended")
            continue
        tokens[result.request_id] = len(result.generated_tokens)
        prompts[result.request_id] = len(result.prompt_ids)
        ended += result.is_finished()
    return sum(tokens.values()), ended, sum(prompts.values())
