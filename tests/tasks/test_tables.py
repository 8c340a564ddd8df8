"""Generating from and to tables: the same answers as with JSON lines, and the same invariants."""

import csv
import json

import pyarrow
import pytest
from pyarrow import parquet
from scripted import ScriptedRun
from test_generate import PROMPTS, expected

from quire.errors import UserError
from quire_plugins.tasks.generate import GenerateConfig

FORMATS = ["jsonl", "parquet", "csv"]


def write(path, records) -> None:
    """Records of strings, in the format of the path's ending."""
    names = list(dict.fromkeys(name for record in records for name in record))
    if path.suffix == ".parquet":
        columns = {name: [record.get(name) for record in records] for name in names}
        parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(records)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(path) -> list[dict]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def generate(source, output, *, interrupt_at=None, **options) -> str:
    config = GenerateConfig(**({"input": str(source), "output": str(output), "max_tokens": 20} | options))
    return ScriptedRun(source.parent / "run", task=config, interrupt_at=interrupt_at).do()


def errors(output) -> list[dict]:
    lines = output.with_name(output.name + ".errors.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def check_all_answered(output) -> None:
    rows = read(output)
    assert [int(row["index"]) for row in rows] == list(range(len(PROMPTS)))
    assert [row["prompt"] for row in rows] == PROMPTS
    assert [row["text"] for row in rows] == [expected(prompt) for prompt in PROMPTS]
    left = {path.name for path in output.parent.iterdir() if path.name.startswith(output.name)}
    assert left == {output.name, f"{output.name}.info.json"}


@pytest.fixture(params=FORMATS)
def source(request, tmp_path):
    path = tmp_path / f"in.{request.param}"
    write(path, [{"prompt": prompt} for prompt in PROMPTS])
    return path


@pytest.fixture(params=["out.parquet", "out.csv"])
def output(request, tmp_path):
    return tmp_path / request.param


def test_every_row_is_answered_in_order(source, output):
    generate(source, output)
    check_all_answered(output)


@pytest.mark.parametrize("interrupt_at", [3, 20])
def test_after_an_interrupt_the_same_command_goes_on(source, output, interrupt_at):
    with pytest.raises(KeyboardInterrupt):
        generate(source, output, interrupt_at=interrupt_at)
    assert not output.exists()
    generate(source, output)
    check_all_answered(output)


def test_wherever_a_kill_cut_the_journal_no_row_is_lost_or_doubled(source, output):
    with pytest.raises(KeyboardInterrupt):
        generate(source, output, interrupt_at=25)
    journal = output.with_name(output.name + ".partial.jsonl")
    whole = journal.read_bytes()
    for cut in (1, 200, len(whole) // 2, len(whole) - 1):
        journal.write_bytes(whole[:cut])
        generate(source, output)
        check_all_answered(output)
        output.unlink()


def test_a_kill_after_the_table_was_written_loses_nothing(source, output, monkeypatch):
    from quire_plugins.tasks import generate as module

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_table", die)
        with pytest.raises(KeyboardInterrupt):
            generate(source, output)
    generate(source, output, interrupt_at=0)  # nothing is computed any more
    check_all_answered(output)


def test_when_all_is_done_nothing_is_loaded(source, output):
    generate(source, output)
    before = output.read_bytes()
    assert f"all results are in {output} already" in generate(source, output, interrupt_at=0)
    assert output.read_bytes() == before


def test_a_table_of_another_input_is_left_as_it_is(source, output):
    generate(source, output)
    write(source, [{"prompt": "other"}])
    with pytest.raises(UserError, match="exists and was made with another input"):
        generate(source, output)
    check_all_answered(output)
    generate(source, output, overwrite=True)
    assert [row["prompt"] for row in read(output)] == ["other"]


def test_a_file_that_is_no_table_of_ours_is_left_as_it_is(source, output):
    output.write_text("my thesis")
    with pytest.raises(UserError, match="exists and was made with another input"):
        generate(source, output)
    assert output.read_text() == "my thesis"


def test_rows_that_failed_are_said_and_tried_again(source, output):
    write(source, [{"prompt": "a"}, {"prompt": "b" * 250}, {"prompt": "c"}])
    generate(source, output)
    assert [row["prompt"] for row in read(output)] == ["a", "c"]
    (error,) = errors(output)
    assert error["index"] == 1
    assert "more than 256" in error["error"]
    generate(source, output, max_tokens=5)
    assert [row["prompt"][0] for row in read(output)] == ["a", "b", "c"]
    assert not output.with_name(output.name + ".errors.jsonl").exists()


def test_parquet_keeps_types(tmp_path):
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    write(
        source,
        [
            {
                "id": "x",
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 3.0,
                "temperature": 0.0,
            },
            {"id": "y", "prompt_token_ids": [1, 104], "metadata": {"k": 1}, "max_tokens": None, "n": 2.0},
        ],
    )
    generate(source, output, ignore_eos=True, token_ids=True, max_tokens=4)
    first, second, third = read(output)
    text = expected("<user>hi<assistant>", max_tokens=3, ignore_eos=True)
    assert (first["id"], first["sample"], first["text"]) == ("x", 0, text)
    assert json.loads(first["messages"]) == [{"role": "user", "content": "hi"}]
    assert (first["token_ids"], first["output_tokens"]) == (list(text.encode()), 3)
    assert [(row["id"], row["sample"]) for row in (second, third)] == [("y", 0), ("y", 1)]
    assert second["prompt_token_ids"] == [1, 104]
    assert json.loads(second["metadata"]) == {"k": 1}
    assert second["output_tokens"] == 8


def test_cells_of_csv_are_json_or_text(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [
        {
            "id": "7",
            "prompt": 'a "quoted"\nline',
            "max_tokens": "3",
            "ignore_eos": "true",
            "metadata": "note",
        },
        {"messages": '[{"role": "user", "content": "hi"}]', "ignore_eos": "true", "max_tokens": "2"},
        {"prompt": "[1]", "max_tokens": "few"},
    ]
    write(source, rows)
    generate(source, output)
    first, second = read(output)
    assert (first["id"], first["prompt"], json.loads(first["metadata"])) == ("7", rows[0]["prompt"], "note")
    assert first["text"] == expected(rows[0]["prompt"], max_tokens=3, ignore_eos=True)
    assert second["text"] == expected("<user>hi<assistant>", max_tokens=2, ignore_eos=True)
    assert [error["error"] for error in errors(output)] == ["max_tokens='few': must be an integer"]


def test_a_bad_row_of_csv_fails_alone(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_bytes(b"prompt,max_tokens\na,2\nb,2,3\n\xff,2\n,2\nc,2\n")
    generate(source, output, max_tokens=1)
    assert [json.loads(line)["prompt"] for line in output.read_text().splitlines()] == ["a", "c"]
    assert [(error["index"], error["error"].partition(";")[0]) for error in errors(output)] == [
        (1, "has 1 cells more than the first row has names"),
        (2, "not UTF-8"),
        (3, "must have one of prompt, messages, prompt_token_ids"),
    ]


def test_files_that_are_no_tables_are_refused(tmp_path):
    output = tmp_path / "out.csv"
    (tmp_path / "in.parquet").write_text("no")
    with pytest.raises(UserError, match=r"task\.input=.*in\.parquet': cannot be read as Parquet: "):
        generate(tmp_path / "in.parquet", output)
    (tmp_path / "in.csv").write_text("prompt,prompt\na,b\n")
    with pytest.raises(UserError, match="its first row names a column twice"):
        generate(tmp_path / "in.csv", output)
    (tmp_path / "in.csv").write_text("prompt\n")
    with pytest.raises(UserError, match="has no lines"):
        generate(tmp_path / "in.csv", output)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        generate(tmp_path / "missing.csv", output)
