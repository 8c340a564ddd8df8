"""The shipped demo model, by transformers alone: it loads, knows its answers, and ends by itself."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import jinja2
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import quire
from quire.text.corpus import SPECIAL_TOKENS, chat_text, corpus
from quire.text.known_answers import KINDS, known_answer_tasks

DEMO_MODEL = Path(quire.__file__).parent / "demo_model"
MEGABYTES_ALLOWED = 8


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))


def test_it_is_small():
    assert sum(file.stat().st_size for file in DEMO_MODEL.iterdir()) <= MEGABYTES_ALLOWED * 10**6


def test_the_tokenizer_keeps_text_and_knows_the_special_tokens(tokenizer: Tokenizer):
    for text in (*islice(corpus(9), 200), "Grüße, naïve 東京 \U0001f600\t\\ 12345"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    for token in SPECIAL_TOKENS:
        assert tokenizer.encode(token).ids == [tokenizer.token_to_id(token)]
    assert tokenizer.encode("417").tokens == ["4", "1", "7"]


def test_the_chat_template_writes_what_the_model_was_trained_on():
    template = jinja2.Template(
        json.loads((DEMO_MODEL / "tokenizer_config.json").read_text())["chat_template"]
    )
    [task] = known_answer_tasks(0, 1)
    messages = [{"role": "system", "content": "Be exact."}, *task.messages]
    assert template.render(messages=messages) == chat_text(messages)
    assert template.render(messages=messages, add_generation_prompt=True) == (
        chat_text(messages) + "<|assistant|>"
    )


def test_most_known_answers_are_right_and_generation_ends():
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32)
    tasks = known_answer_tasks(2_000_000, 80)
    chats = [
        tokenizer.apply_chat_template(list(task.messages), tokenize=False, add_generation_prompt=True)
        for task in tasks
    ]
    solved: Counter[str] = Counter()
    for prompts in ([task.prompt for task in tasks], chats):
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
        outputs = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        outputs = outputs[:, inputs["input_ids"].shape[1] :]
        assert (outputs == tokenizer.eos_token_id).any(1).float().mean() >= 0.95
        completions = tokenizer.batch_decode(outputs, skip_special_tokens=True)
        for task, completion in zip(tasks, completions, strict=True):
            solved[task.kind] += task.solved_by(completion)
    assert all(solved[kind] >= 0.8 * 40 for kind in KINDS), solved
