"""What quantising costs in accuracy: perplexity, known answers, and the distance from bfloat16.

    python experiments/quantization/measure.py

Perplexity and divergence come from transformers' own models, each of whose linear layers multiplies by the
plugin's product instead, or whose keys and values are rounded as engine.kv_dtype keeps them; known answers
come from the engine. The table of README.md is written from the results; `--table` does no more than that.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from quire import LLM, SamplingParams
from quire.config.compose import compose
from quire.engine.config import KVDtype
from quire.interfaces.kv_cache import kv_element_dtype
from quire.interfaces.ops import Ops
from quire.interfaces.quantization import Quantization
from quire.jobs.provenance import command_line, commit_of, describe_machine
from quire.models.checkpoint import open_checkpoint
from quire.registry import load_registry
from quire.report.marked_page import write_parts
from quire.text.corpus import corpus
from quire.text.known_answers import known_answer_tasks
from quire.text.tokenizer import Tokenizer
from quire_kernels.reference import quantise_tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "cpu_speed"))
from workload import SHAPES, make_checkpoint

HELD_OUT_SEED = 1_000_000
ARMS = (
    (),
    ("quantization=w8a8",),
    ("quantization=w8a8", "quantization.skip=[head]"),
    ("quantization=w4a16",),
    ("quantization=w4a16", "quantization.group_size=128"),
    ("quantization=w4a16", "quantization.symmetric=true"),
    ("engine.kv_dtype=int8",),
    ("engine.kv_dtype=fp8_e4m3",),
    ("quantization=w8a8", "engine.kv_dtype=int8"),
)
README = Path(__file__).with_name("README.md")


class Layer(nn.Module):
    """One of the plugin's products in a transformers model."""

    def __init__(self, product: Any) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def quantised(directory: Path, overrides: tuple[str, ...]) -> Any:
    """The model in bfloat16, its linear layers and its keys and values as the configuration makes them."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()
    registry = load_registry()
    config = compose(overrides, registry)
    quantization: Quantization = registry.create("quantization", config.quantization, device="cpu")
    ops: Ops = registry.create("ops", config.ops, device="cpu")
    for path, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear) or (path == "lm_head" and "head" in quantization.skip):
            continue
        parent, _, name = path.rpartition(".")
        product = quantization.linear(layer.weight.detach(), layer.bias, name=path, ops=ops)
        setattr(model.get_submodule(parent), name, Layer(product))
    if config.engine.kv_dtype is not KVDtype.auto:
        kept = kv_element_dtype(config.engine.kv_dtype.value, dtype=model.dtype)
        AttentionInterface.register(str(kept), partial(attend_rounded, kept))
        AttentionMaskInterface.register(str(kept), sdpa_mask)
        model.set_attn_implementation(str(kept))
    return model


def attend_rounded(
    kept: torch.dtype, module: nn.Module, query: Any, key: Any, value: Any, *rest: Any, **options: Any
):
    """transformers' attention to keys and values [1, heads, tokens, dimensions] out of 8 bits."""
    rounded = []
    for x in (key, value):
        codes, scales = quantise_tokens(x, kept)
        rounded.append((codes.float() * scales[..., None]).to(x.dtype))
    return sdpa_attention_forward(module, query, *rounded, *rest, **options)


def held_out(tokenizer: Tokenizer, documents: int) -> Iterator[torch.Tensor]:
    for text in islice(corpus(HELD_OUT_SEED), documents):
        yield torch.tensor([tokenizer.encode(text)[:512]])


@torch.inference_mode()
def perplexity(model: Any, texts: list[torch.Tensor]) -> float:
    total = count = 0.0
    for ids in texts:
        logits = model(ids).logits[0, :-1].float()
        total += functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return math.exp(total / count)


@torch.inference_mode()
def divergence(model: Any, exact: Any, texts: list[torch.Tensor]) -> dict[str, float]:
    """Mean KL from the exact model's next tokens (nats), and how often the likeliest is the same."""
    divergences, same = [], []
    for ids in texts:
        p, q = (each(ids).logits[0].float().log_softmax(-1) for each in (exact, model))
        divergences.append((p.exp() * (p - q)).sum(-1))
        same.append((p.argmax(-1) == q.argmax(-1)).float())
    return {"kl": torch.cat(divergences).mean().item(), "same_token": torch.cat(same).mean().item()}


def known_answers(overrides: tuple[str, ...], count: int) -> float:
    tasks = known_answer_tasks(HELD_OUT_SEED, count)
    with LLM("demo", ["dtype=bfloat16", *overrides]) as llm:
        done = llm.generate([task.prompt for task in tasks], SamplingParams(temperature=0.0, max_tokens=64))
    right = [task.solved_by(each.samples[0].text) for task, each in zip(tasks, done, strict=True)]
    return sum(right) / count


def write_table(report: dict[str, Any]) -> None:
    """Replace the table in the README by that of `report`."""
    lines = [
        "| configuration | perplexity | known answers | KL, demo model | KL, random model | same likeliest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        name = row["configuration"].replace("quantization=none", "bfloat16")
        demo, random = row["demo"], row["random_135m"]
        lines.append(
            f"| {name} | {row['perplexity']:.2f} | {row['known_answers']:.1%} | {demo['kl']:.4f} "
            f"| {random['kl']:.5f} | {random['same_token']:.0%} |"
        )
    scope = f"{report['documents']} texts, {report['tasks']} tasks; {report['machine']['cpu']}.\n"
    write_parts(README, {"results": "\n".join(lines) + "\n\n" + scope})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=100, help="held-out texts for perplexity")
    parser.add_argument("--tasks", type=int, default=400, help="known-answer tasks")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--table", action="store_true", help="only write the README's table from --out")
    arguments = parser.parse_args()
    if arguments.table:
        write_table(json.loads(arguments.out.read_text()))
        return
    demo = open_checkpoint("demo").path
    texts = list(held_out(Tokenizer.load(demo), arguments.documents))
    generator = torch.Generator().manual_seed(0)
    random_texts = [torch.randint(SHAPES["135m"].vocab, (1, 128), generator=generator) for _ in range(2)]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        make_checkpoint(Path(directory), SHAPES["135m"])
        exact_random, exact_demo = quantised(Path(directory), ()), quantised(demo, ())
        for overrides in ARMS:
            model = quantised(demo, overrides)
            row = {
                "configuration": " ".join(overrides) or "quantization=none",
                "perplexity": perplexity(model, texts),
                "known_answers": known_answers(overrides, arguments.tasks),
                "demo": divergence(model, exact_demo, texts[:20]),
                "random_135m": divergence(quantised(Path(directory), overrides), exact_random, random_texts),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    report = {
        "command": command_line("experiments/quantization/measure.py"),
        "commit": commit_of(Path(__file__)),
        "machine": describe_machine(),
        "documents": arguments.documents,
        "tasks": arguments.tasks,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.out.parent == README.parent:
        write_table(report)


if __name__ == "__main__":
    main()
