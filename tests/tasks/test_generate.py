"""The generate task: every line is answered once, whatever is wrong with others, and whatever stopped it."""

import json

import pytest
from scripted import EOS, SCRIPT, ScriptedRun

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire_plugins.tasks.generate import GenerateConfig

PROMPTS = [f"prompt number {index} " + "x" * (index * 7 % 40) for index in range(30)]


def write(path, objects) -> None:
    lines = (each if isinstance(each, str) else json.dumps(each) for each in objects)
    path.write_text("".join(line + "\n" for line in lines))


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(prompt: str, **sampling) -> str:
    """What the scripted model says, by its own account."""
    params = SamplingParams(**({"temperature": 0.0, "max_tokens": 20} | sampling))
    request = Request(id="x", prompt_token_ids=(1, *prompt.encode()), sampling=params)
    return bytes(SCRIPT.output(request, seed=0, eos_token_ids=(EOS,), limit=1000)).decode()


def generate(tmp_path, *, interrupt_at=None, **options) -> str:
    """Run the task on tmp_path/in.jsonl; what the console showed."""
    files = {"input": str(tmp_path / "in.jsonl"), "output": str(tmp_path / "out.jsonl")}
    config = GenerateConfig(**(files | {"max_tokens": 20} | options))
    return ScriptedRun(tmp_path / "run", task=config, interrupt_at=interrupt_at).do()


def check_all_answered(tmp_path) -> None:
    results = read(tmp_path / "out.jsonl")
    assert sorted(result["index"] for result in results) == list(range(len(PROMPTS)))
    for result in results:
        prompt = PROMPTS[result["index"]]
        assert result["prompt"] == prompt
        assert result["outputs"][0]["text"] == expected(prompt)


@pytest.fixture
def many(tmp_path):
    write(tmp_path / "in.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    return tmp_path


def test_every_line_is_answered(many):
    shown = generate(many)
    check_all_answered(many)
    assert not (many / "out.jsonl.errors.jsonl").exists()
    assert "30 results written to" in shown
    assert "\x1b" not in shown
    assert json.loads((many / "run" / "summary.json").read_text())["completed"] == 30


def test_a_result_has_what_was_asked_for(tmp_path):
    write(
        tmp_path / "in.jsonl",
        [{"id": "ä", "metadata": {"k": [1]}, "prompt": "hello", "max_tokens": 3, "ignore_eos": True}],
    )
    generate(tmp_path, token_ids=True)
    text = expected("hello", max_tokens=3, ignore_eos=True)
    assert read(tmp_path / "out.jsonl") == [
        {
            "index": 0,
            "id": "ä",
            "metadata": {"k": [1]},
            "prompt": "hello",
            "outputs": [{"text": text, "finish_reason": "length", "token_ids": list(text.encode())}],
            "usage": {"prompt_tokens": 6, "output_tokens": 3},
        }
    ]


def test_prompts_may_be_token_ids_or_a_chat(tmp_path):
    chat = [{"role": "user", "content": "hi"}]
    write(
        tmp_path / "in.jsonl",
        [{"prompt_token_ids": [1, 104, 105]}, {"messages": chat}],
    )
    generate(tmp_path)
    first, second = sorted(read(tmp_path / "out.jsonl"), key=lambda result: result["index"])
    assert first["prompt_token_ids"] == [1, 104, 105]
    assert first["outputs"][0]["text"] == expected("hi")
    assert second["messages"] == chat
    assert second["outputs"][0]["text"] == expected("<user>hi<assistant>")


def test_a_line_overrides_the_defaults(tmp_path):
    write(tmp_path / "in.jsonl", [{"prompt": "a", "n": 3, "temperature": 1, "seed": 5}, {"prompt": "a"}])
    generate(tmp_path, ignore_eos=True)
    results = {result["index"]: result for result in read(tmp_path / "out.jsonl")}
    assert len({output["text"] for output in results[0]["outputs"]}) == 3
    assert results[0]["usage"] == {"prompt_tokens": 2, "output_tokens": 60}
    assert [output["text"] for output in results[1]["outputs"]] == [expected("a", ignore_eos=True)]


BAD_LINES = [
    ("{not json", "not JSON"),
    ("[1, 2]", "not a JSON object but list"),
    ("[" * 100_000, "not JSON"),
    ({"text": "hello"}, "must have one of prompt, messages, prompt_token_ids; it has none of them"),
    ({"prompt": "a", "prompt_token_ids": [1]}, "it has prompt and prompt_token_ids"),
    ({"prompt": 5}, "prompt=5: must be a string"),
    ({"prompt_token_ids": []}, "prompt_token_ids is empty"),
    ({"prompt_token_ids": [1, True]}, "prompt_token_ids=[1, True]: must be a list of integers"),
    ({"prompt_token_ids": [1, 128]}, "token id 128 is outside the vocabulary"),
    ({"messages": {"role": "user"}}, "messages: must be a list of objects"),
    ({"messages": ["hi"]}, "messages[0]: must be an object with a role"),
    ({"messages": [{"content": "hi"}]}, "messages[0]: must be an object with a role"),
    ({"prompt": "a", "max_tokens": "many"}, "max_tokens='many': must be an integer"),
    ({"prompt": "a", "temperature": -1}, "temperature=-1.0: must be a finite number >= 0"),
    ({"prompt": "a", "temprature": 1}, "temprature: there is no such sampling parameter (did you mean"),
    ({"prompt": "a", "id": [1]}, "id=[1]: must be a string or an integer"),
    ({"prompt": "a" * 300}, "more than 256"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_fails_alone_and_says_why(tmp_path, line, reason):
    write(tmp_path / "in.jsonl", [{"prompt": "a"}, line, "", {"prompt": "b"}])
    shown = generate(tmp_path)
    assert [result["index"] for result in read(tmp_path / "out.jsonl")] == [0, 3]
    (error,) = read(tmp_path / "out.jsonl.errors.jsonl")
    assert (error["line"], error["index"]) == (2, 1)
    assert reason in error["error"]
    assert "1 failed, see" in shown


def test_bytes_that_are_not_utf8_fail_alone(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "\xff"}\n{"prompt": "b"}')
    generate(tmp_path)
    assert [result["index"] for result in read(tmp_path / "out.jsonl")] == [0, 2]
    assert read(tmp_path / "out.jsonl.errors.jsonl")[0]["error"] == "not UTF-8: byte 0xff at 12"


def test_failed_lines_are_tried_again_and_reported_anew(tmp_path):
    write(tmp_path / "in.jsonl", [{"prompt": "a"}, {"prompt": "b" * 250}])
    generate(tmp_path)
    assert len(read(tmp_path / "out.jsonl.errors.jsonl")) == 1
    generate(tmp_path, max_tokens=5)
    assert [result["index"] for result in read(tmp_path / "out.jsonl")] == [0, 1]
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


@pytest.mark.parametrize("interrupt_at", [0, 3, 20, 30])
def test_after_an_interrupt_the_same_command_goes_on(many, interrupt_at):
    with pytest.raises(KeyboardInterrupt):
        generate(many, interrupt_at=interrupt_at)
    done = len(read(many / "out.jsonl"))
    assert done < 30
    summary = json.loads((many / "run" / "summary.json").read_text())
    assert (summary["interrupted"], summary["completed"]) == (True, done)
    shown = generate(many)
    check_all_answered(many)
    assert f"{30 - done} results written" in shown


def test_wherever_a_kill_cut_the_file_no_line_is_lost_or_doubled(many):
    generate(many)
    whole = (many / "out.jsonl").read_bytes()
    for cut in (1, 5, 11, 200, len(whole) // 2, len(whole) - 1):
        (many / "out.jsonl").write_bytes(whole[:cut])
        generate(many)
        check_all_answered(many)


def test_when_all_is_done_nothing_is_loaded(many):
    generate(many)
    before = (many / "out.jsonl").read_bytes()
    shown = generate(many, interrupt_at=0)
    assert (many / "out.jsonl").read_bytes() == before
    assert "30 results are in" in shown


def test_overwrite_begins_anew(many):
    generate(many, max_tokens=1)
    generate(many, overwrite=True)
    check_all_answered(many)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ([{"prompt": "other"}, {"prompt": "b"}], "line 1 of task.input has another id or prompt"),
        ([{"prompt": "a", "id": 7}, {"prompt": "b"}], "line 1 of task.input has another id or prompt"),
        ([{"prompt": "a"}], "it has lines beyond the 1 of task.input"),
    ],
)
def test_results_of_another_input_are_not_mixed_in(tmp_path, changed, why):
    write(tmp_path / "in.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    generate(tmp_path)
    write(tmp_path / "in.jsonl", changed)
    with pytest.raises(UserError, match=f"holds results of another input: {why}"):
        generate(tmp_path)


@pytest.mark.parametrize(
    "content", ["my thesis", "my thesis\n", '{"a": 1}\n', '{"in', '{"index": 0}\n{"index']
)
def test_a_file_that_is_no_output_of_ours_is_left_as_it_is(many, content):
    (many / "out.jsonl").write_text(content)
    if content == '{"in':  # may be the beginning of a result
        generate(many)
        check_all_answered(many)
        return
    with pytest.raises(UserError, match="is no result of this task"):
        generate(many)
    assert (many / "out.jsonl").read_text() == content


def test_mistakes_in_the_options_are_named(tmp_path):
    with pytest.raises(UserError, match=r"task\.input='.*in\.jsonl': cannot be read: No such file"):
        generate(tmp_path)
    (tmp_path / "in.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"task\.input=.*has no lines"):
        generate(tmp_path)
    write(tmp_path / "in.jsonl", [{"prompt": "a"}])
    with pytest.raises(UserError, match=r"task\.output=.*is the input itself"):
        generate(tmp_path, output=str(tmp_path / "in.jsonl"))
    with pytest.raises(UserError, match=r"task\.output=.*cannot be read: Is a directory"):
        generate(tmp_path, output=str(tmp_path))
    with pytest.raises(UserError, match=r"task\.output=.*cannot be written: (Not a directory|File exists)"):
        generate(tmp_path, output=str(tmp_path / "in.jsonl" / "out"), overwrite=True)
    with pytest.raises(UserError, match=r"task\.temperature=-1\.0: must be"):
        GenerateConfig(temperature=-1.0)
    with pytest.raises(UserError, match=r"either task\.input=FILE or task\.prompt=TEXT"):
        ScriptedRun(tmp_path, task=GenerateConfig()).do()
    with pytest.raises(UserError, match=r"either task\.input=FILE or task\.prompt=TEXT"):
        generate(tmp_path, prompt="a")
    with pytest.raises(UserError, match=r"task\.output='o': task\.prompt is answered on the console"):
        ScriptedRun(tmp_path, task=GenerateConfig(prompt="a", output="o")).do()


def test_without_an_output_path_results_are_among_the_runs(many):
    generate(many, output=None)
    assert len(read(many / "run" / "outputs.jsonl")) == 30


def test_one_prompt_is_answered_on_the_console(tmp_path):
    config = GenerateConfig(prompt="hello", max_tokens=30)
    shown = ScriptedRun(tmp_path, task=config).do()
    assert shown == expected("hello", max_tokens=30) + "\n"


def test_samples_of_one_prompt_are_shown_apart(tmp_path):
    config = GenerateConfig(prompt="hello", n=2, max_tokens=5, ignore_eos=True)
    shown = ScriptedRun(tmp_path, task=config).do()
    text = expected("hello", max_tokens=5, ignore_eos=True)
    assert shown.count(text) == 2
    assert "sample 0" in shown
    assert "sample 1" in shown


def test_one_prompt_that_cannot_fit_is_refused(tmp_path):
    config = GenerateConfig(prompt="x" * 250)
    with pytest.raises(UserError, match="prompt of 251 and output of 256 tokens make 507, more than 256"):
        ScriptedRun(tmp_path, task=config).do()
