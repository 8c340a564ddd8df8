"""Greedy tokens of quire against transformers', in float32, where nothing but an error can tell them apart.

Random weights make logits that differ by little, so that a wrong position, mask or page shows at once. In
bfloat16 rounding decides between near equals: there the demo model, which was trained, is asked how many of
its tokens the float32 model would have chosen at the same place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from box import Box
from checkpoint import small_models
from engines import Loaded, random_prompt, request

from quire.engine.engine import Engine
from quire.models.checkpoint import open_checkpoint

Prompts = list[tuple[int, ...]]


def check(box: Box) -> None:
    """One row a model: tokens that are the same, of how many."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    lengths = (3, 17, 40) if box.dry else (3, 16, 17, 40, 130, 300)
    output = 6 if box.dry else 48
    demo = open_checkpoint("demo").path
    for name, path in {"demo": demo, **small_models(box.model.parent, dry=box.dry)}.items():
        if not box.has_time(f"tokens of {name}"):
            continue
        rng = np.random.Generator(np.random.PCG64(0))
        oracle = _oracle(path, box.device)
        vocab = oracle.config.vocab_size
        prompts = [random_prompt(rng, vocab=vocab, tokens=length) for length in lengths]
        ours = _generate(path, prompts, output, dtype="float32", box=box)
        theirs = [_transformers_tokens(oracle, prompt, output) for prompt in prompts]
        same = sum(a == b for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
        box.row(
            what=f"tokens of {name}, float32",
            same=same,
            of=output * len(prompts),
            least=1.0,
            ok=ours == theirs,
        )
        if name == "demo":
            _check_rounded(box, path, oracle, prompts, output)
        del oracle


def _check_rounded(box: Box, path: Path, oracle: torch.nn.Module, prompts: Prompts, output: int) -> None:
    ours = _generate(path, prompts, output, dtype="bfloat16", box=box)
    same = sum(_chosen(oracle, prompt, tokens) for prompt, tokens in zip(prompts, ours, strict=True))
    total = output * len(prompts)
    box.row(what="tokens of demo, bfloat16", same=same, of=total, least=0.95, ok=same >= 0.95 * total)


def _oracle(path: Path, device: str) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval().to(device)


def _generate(path: Path, prompts: Prompts, output: int, *, dtype: str, box: Box) -> list[list[int]]:
    """All prompts at once: chunks, decodes and ends meet in the same steps."""
    loaded = Loaded(path, device=box.device, dtype=dtype, max_tokens=512)
    engine = loaded.engine(max_sequences=8, max_step_tokens=64, kv_bytes=2**26)
    try:
        return _run(engine, prompts, output)
    finally:
        engine.close()


def _run(engine: Engine, prompts: Prompts, output: int) -> list[list[int]]:
    tokens: list[list[int]] = [[] for _ in prompts]
    for index, prompt in enumerate(prompts):
        engine.add(request(str(index), prompt, output))
    while engine.has_work:
        for piece in engine.step():
            assert piece.error is None, piece.error
            tokens[int(piece.request_id)] += piece.token_ids
    return tokens


@torch.no_grad()
def _transformers_tokens(model: torch.nn.Module, prompt: tuple[int, ...], output: int) -> list[int]:
    """Greedily, each token from its own forward pass over everything before: no cache to be wrong."""
    ids = torch.tensor([prompt], device=model.device)
    for _ in range(output):
        logits = model(ids, use_cache=False).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids[0, len(prompt) :].tolist()


@torch.no_grad()
def _chosen(model: torch.nn.Module, prompt: tuple[int, ...], tokens: list[int]) -> int:
    """How many of `tokens` the model would have chosen after those before."""
    ids = torch.tensor([[*prompt, *tokens]], device=model.device)
    chosen = model(ids, use_cache=False).logits[0].argmax(-1)[len(prompt) - 1 : -1].tolist()
    return sum(a == b for a, b in zip(chosen, tokens, strict=True))
