"""Score a checkpoint on held-out known-answer tasks, and sample text from it, by transformers alone.

    python experiments/demo_model/evaluate.py [framework/quire/demo_model] [--dtype float32]

Greedy decoding; the tasks' seed is one that no training text is drawn from.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from quire.text.known_answers import KINDS, Task, known_answer_tasks

HELD_OUT_SEED = 1_000_000
TASKS_PER_KIND = 200
STORY_PROMPTS = (
    "One cold morning, Lena woke up early.",
    "<|user|>Tell me a story about Tom and a lost violin.<|end|><|assistant|>",
    "<|user|>Write a dialogue between Nora and Hugo.<|end|><|assistant|>",
    "<|user|>Describe the castle.<|end|><|assistant|>",
)


def load(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval(), tokenizer


def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_tokens: int
) -> list[str]:
    """Greedy completions, special tokens removed; a prompt that does not end in time keeps what it has."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    outputs = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
    return tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def evaluate(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, float]]:
    """The part of the tasks solved, as {"plain" or "chat": {kind: part}}."""
    model, tokenizer = load(path, dtype)
    tasks = known_answer_tasks(HELD_OUT_SEED, TASKS_PER_KIND * len(KINDS))
    prompts = {
        "plain": [task.prompt for task in tasks],
        "chat": [
            tokenizer.apply_chat_template(list(task.messages), tokenize=False, add_generation_prompt=True)
            for task in tasks
        ],
    }
    return {form: _accuracy(model, tokenizer, tasks, texts) for form, texts in prompts.items()}


def _accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: list[Task], prompts: list[str]
) -> dict[str, float]:
    solved: dict[str, int] = defaultdict(int)
    # Sorted by length, a padded batch wastes little.
    order = sorted(range(len(tasks)), key=lambda index: len(prompts[index]))
    for first in range(0, len(order), 50):
        chunk = order[first : first + 50]
        completions = complete(model, tokenizer, [prompts[index] for index in chunk], max_tokens=64)
        for index, completion in zip(chunk, completions, strict=True):
            solved[tasks[index].kind] += tasks[index].solved_by(completion)
    return {kind: solved[kind] / TASKS_PER_KIND for kind in KINDS}


def samples(path: Path) -> list[dict[str, str]]:
    """Sampled continuations (temperature 0.7, seed 0) of a few prompts, special tokens kept."""
    model, tokenizer = load(path, torch.float32)
    torch.manual_seed(0)
    texts: list[dict[str, str]] = []
    for prompt in STORY_PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        output = model.generate(**inputs, max_new_tokens=250, do_sample=True, temperature=0.7, top_k=0)
        text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
        texts.append({"prompt": prompt, "continuation": text})
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(__file__).parents[2] / "framework/quire/demo_model"
    parser.add_argument("path", type=Path, nargs="?", default=default)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    print(json.dumps(evaluate(options.path, getattr(torch, options.dtype)), indent=1))
    for sample in samples(options.path):
        print(f"\n{sample['prompt']} ...{sample['continuation']}")


if __name__ == "__main__":
    main()
