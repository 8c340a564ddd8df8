"""Outputs of a certain form where no server is asked: generate's lines and options, batches, Python."""

import io
import json
import re

from rich.console import Console

from quire import LLM, SamplingParams
from quire.config.compose import compose
from quire.registry import load_registry
from quire.run import Run

ENGINE = ("engine.kv_bytes=8MiB", "engine.threads=1", "engine.max_model_tokens=512")
DIGITS = {"grammar": {"regex": "[0-9]{4}"}}


def run(directory, lines, *overrides: str) -> list[dict]:
    """Run a task on these lines; the lines of its output."""
    (directory / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    registry = load_registry()
    files = (f"task.input={directory / 'in.jsonl'}", f"task.output={directory / 'out.jsonl'}")
    config = compose([*overrides, *files, *ENGINE], registry)
    run = Run(config=config, registry=registry, directory=directory / "run")
    run.directory.mkdir(exist_ok=True)
    run.console = Console(file=io.StringIO(), width=200)
    registry.create("task", config.task).run(run)
    return [json.loads(text) for text in (directory / "out.jsonl").read_text().splitlines()]


def test_lines_of_generate(tmp_path):
    lines = [
        {"prompt": "A", "id": "own", "extra": {"grammar": {"choice": ["yes", "no"]}}},
        {"prompt": "B", "id": "default"},
        {"prompt": "C", "id": "bad", "extra": {"grammar": {"regex": "("}}},
    ]
    found = run(tmp_path, lines, "task=generate", "+task.extra.grammar={regex: '[0-9]{4}'}")
    texts = {line["id"]: line["outputs"][0]["text"] for line in found}
    assert set(texts) == {"own", "default"}
    assert texts["own"] in ("yes", "no")
    assert re.fullmatch("[0-9]{4}", texts["default"])
    (error,) = (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()
    assert "grammar.regex" in json.loads(error)["error"]


def test_lines_of_a_batch(tmp_path):
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    schema["additionalProperties"] = False
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    hi = [{"role": "user", "content": "Hi"}]
    bodies = {
        "format": {"messages": hi, "response_format": format, "max_tokens": 60},
        "tool": {
            "messages": hi,
            "tools": [tool],
            "tool_choice": "required",
            "max_tokens": 90,
            "parallel_tool_calls": False,
        },
    }
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for name, body in bodies.items()
    ]
    found = run(tmp_path, lines, "task=batch", "server.tool_format=hermes")
    choices = {line["custom_id"]: line["response"]["body"]["choices"][0] for line in found}
    assert json.loads(choices["format"]["message"]["content"])["a"] in (1, 2)
    (call,) = choices["tool"]["message"]["tool_calls"]
    assert call["function"]["name"] == "f"
    assert json.loads(call["function"]["arguments"])["a"] in (1, 2)


def test_from_python():
    with LLM("demo", ENGINE) as llm:
        good, bad = (
            llm.generate(["Hi"], SamplingParams(temperature=1.0, max_tokens=20, n=3, extra=extra))[0]
            for extra in (DIGITS, {"grammar": {"lark": "start: x"}})
        )
    assert all(re.fullmatch("[0-9]{4}", sample.text) for sample in good.samples)
    assert "grammar.lark" in bad.error
