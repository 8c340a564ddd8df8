"""lm-evaluation-harness: through the server it must find what it finds with the model in its own hands.

The oracle is its backend `hf`: the same tasks, prompts and metrics, with transformers in place of the server.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import cache
from pathlib import Path

from checks import Facts, equal, main, run

TASKS = Path(__file__).parent / "lm_eval_tasks"


PLAIN, CHAT = ("quire_choice", "quire_generate"), ("quire_chat",)


@cache
def evaluate(facts: Facts, model: str, tasks: tuple[str, ...], arguments: str) -> dict[str, dict]:
    """By task what `lm_eval` writes: its results and, by document, the samples."""
    place = Path(facts.directory) / f"{model}-{len(list(Path(facts.directory).iterdir()))}"
    place.mkdir()
    shutil.copy(Path(facts.directory).parent / "tasks.jsonl", place)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", model, "--model_args", arguments]
    command += ["--tasks", ",".join(tasks), "--include_path", str(TASKS), "--output_path", str(place / "out")]
    command += ["--log_samples", *(["--apply_chat_template"] if tasks == CHAT else [])]
    command += ["--device", "cpu"] if model == "hf" else []
    run(*command, cwd=place)
    (results,) = (place / "out").rglob("results_*.json")
    return {
        task: {"results": json.loads(results.read_text())["results"][task], "samples": _samples(place, task)}
        for task in tasks
    }


def _samples(place: Path, task: str) -> list[dict]:
    (file,) = (place / "out").rglob(f"samples_{task}_*.jsonl")
    return sorted(map(json.loads, file.read_text().splitlines()), key=lambda each: each["doc_id"])


def oracle(facts: Facts, task: str) -> dict:
    arguments = f"pretrained={facts.model_directory},dtype=float32"
    return evaluate(facts, "hf", PLAIN if task in PLAIN else CHAT, arguments)[task]


def through_server(facts: Facts, task: str, *options: str) -> dict:
    plain = task in PLAIN
    model, path = ("local-completions", "") if plain else ("local-chat-completions", "chat/")
    given = [f"model={facts.model}", f"base_url={facts.url}/v1/{path}completions", "max_retries=1", *options]
    return evaluate(facts, model, PLAIN if plain else CHAT, ",".join(given))[task]


def check_choices(facts: Facts, *options: str) -> None:
    """Log-likelihoods, and which are greedy, within float32's rounding."""
    ours, theirs = through_server(facts, "quire_choice", *options), oracle(facts, "quire_choice")
    for one, other in zip(ours["samples"], theirs["samples"], strict=True):
        for (value, greedy), (expected, likeliest) in zip(
            one["filtered_resps"], other["filtered_resps"], strict=True
        ):
            assert abs(float(value) - float(expected)) < 1e-2, f"{value} instead of {expected}"
            equal(str(greedy), str(likeliest))
    equal(ours["results"]["acc,none"], theirs["results"]["acc,none"])
    assert ours["results"]["acc,none"] > 0.5, "the demo model knows these"


def check_texts(facts: Facts, task: str, *options: str) -> None:
    ours, theirs = through_server(facts, task, *options), oracle(facts, task)
    for one, other in zip(ours["samples"], theirs["samples"], strict=True):
        equal(one["filtered_resps"], other["filtered_resps"])
    equal(ours["results"]["exact_match,none"], theirs["results"]["exact_match,none"])
    assert ours["results"]["exact_match,none"] > 0.5, "the demo model knows these"


def here(facts: Facts) -> tuple[str, ...]:
    """Options for a tokenizer of the client's own."""
    return ("tokenizer_backend=huggingface", f"tokenizer={facts.model_directory}", "num_concurrent=4")


if __name__ == "__main__":
    main(
        "lm_eval",
        {
            "local-completions: likelihoods": lambda facts: check_choices(facts, *here(facts)),
            "local-completions: likelihoods, the server's tokenizer": check_choices,
            "local-completions: generation": lambda facts: check_texts(facts, "quire_generate", *here(facts)),
            "local-completions: generation, the server's tokenizer": lambda facts: check_texts(
                facts, "quire_generate"
            ),
            "local-chat-completions": lambda facts: check_texts(facts, "quire_chat", "num_concurrent=4"),
        },
    )
