"""The embed task on a tiny encoder: each line has its vector, whatever is wrong with others or stopped it."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from scripted import ScriptedRun

from quire.errors import UserError
from quire_plugins.tasks.embed import EmbedConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "embedding"))
from text_checkpoints import DECODERS, ENCODERS, make_checkpoint, write_recipe

TEXTS = [chr(97 + index % 26) * (1 + index * 7 % 40) for index in range(40)]


class EmbedRun(ScriptedRun):
    """With a real embedder; a scripted tokenizer, a token a character."""

    interrupted_at: int | None = None

    def embedding_texts(self, max_tokens):
        return CharacterTexts(max_tokens)

    def embedder(self):
        found = super().embedder()
        calls, compute = 0, found.embed

        def embed(*args, **options):
            nonlocal calls
            calls += 1
            if self.interrupted_at is not None and calls > self.interrupted_at:
                raise KeyboardInterrupt
            return compute(*args, **options)

        found.embed = embed
        return found


class CharacterTexts:
    def __init__(self, max_tokens):
        self._max_tokens = max_tokens

    def encode(self, text, *, prompt_name=None, truncate=False):
        token_ids = [3] * (prompt_name == "query") + [ord(character) for character in text]
        return token_ids[: self._max_tokens] if truncate else token_ids


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bert")
    make_checkpoint(ENCODERS["bert"], directory)
    write_recipe(directory, max_seq_length=50)
    return directory


@pytest.fixture(scope="module")
def expected(model, tmp_path_factory):
    """The vectors, each text alone."""
    from quire.embedding.config import EmbeddingConfig

    run = EmbedRun(tmp_path_factory.mktemp("run"), model=str(model), embedding=EmbeddingConfig())
    embedder = run.embedder()
    return np.concatenate([embedder.embed([[ord(character) for character in text]]) for text in TEXTS])


@pytest.fixture(params=["parquet", "npy"])
def output(request, tmp_path):
    return tmp_path / f"vectors.{request.param}"


def embed(model, output, *, interrupt_at=None, batch_tokens=50, source="in.jsonl", **options) -> str:
    from quire.embedding.config import EmbeddingConfig

    config = EmbedConfig(**({"input": str(output.parent / source), "output": str(output)} | options))
    embedding = EmbeddingConfig(batch_tokens=batch_tokens)
    run = EmbedRun(output.parent / "run", model=str(model), task=config, embedding=embedding)
    run.interrupted_at = interrupt_at
    return run.do()


def write(path, lines) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    table = parquet.read_table(path)
    assert table["index"].to_pylist() == list(range(len(table)))
    return np.array(table["vector"].to_pylist(), dtype=np.float32)


@pytest.fixture
def many(tmp_path):
    write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])


@pytest.mark.usefixtures("many")
def test_every_line_has_its_vector(model, output, expected):
    shown = embed(model, output)
    assert "40 vectors computed" in shown
    np.testing.assert_allclose(read(output), expected, atol=1e-5)
    left = {path.name for path in output.parent.iterdir() if path.name.startswith(output.name)}
    assert left == {output.name, f"{output.name}.info.json"}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("interrupt_at", [0, 1, 3])
def test_after_an_interrupt_the_same_command_goes_on(model, output, expected, interrupt_at):
    with pytest.raises(KeyboardInterrupt):
        embed(model, output, interrupt_at=interrupt_at)
    assert not output.exists()
    shown = embed(model, output)
    assert ("are in" in shown) == (interrupt_at > 0)
    np.testing.assert_allclose(read(output), expected, atol=1e-5)


@pytest.mark.usefixtures("many")
def test_wherever_a_kill_cut_the_file_no_line_is_lost_or_doubled(model, output, expected):
    with pytest.raises(KeyboardInterrupt):
        embed(model, output, interrupt_at=3)
    partial = output.with_name(output.name + ".partial")
    whole = partial.read_bytes()
    header = whole.index(b"\n") + 1
    record = 8 + 16 + 64 * 4
    assert (len(whole) - header) % record == 0
    for cut in (0, 5, header, header + 10, header + 3 * record + 1, len(whole) - 1):
        partial.write_bytes(whole[:cut])
        embed(model, output)
        np.testing.assert_allclose(read(output), expected, atol=1e-5)
        output.unlink()


@pytest.mark.usefixtures("many")
def test_when_all_is_done_nothing_is_loaded(model, output):
    embed(model, output)
    before = output.read_bytes()
    assert f"all vectors are in {output} already" in embed(model, output, interrupt_at=0)
    assert output.read_bytes() == before


@pytest.mark.usefixtures("many")
def test_vectors_of_another_input_or_model_are_not_mixed_in(model, output):
    with pytest.raises(KeyboardInterrupt):
        embed(model, output, interrupt_at=2)
    with pytest.raises(UserError, match="holds vectors of another model or other options"):
        embed(model, output, prompt="query")
    lines = [{"text": text} for text in TEXTS]
    write(output.parent / "in.jsonl", [{"text": "other"}, *lines[1:]])
    with pytest.raises(UserError, match=r"line 1 of task\.input has another id or prompt than its result"):
        embed(model, output)
    write(output.parent / "in.jsonl", lines)
    embed(model, output)
    with pytest.raises(UserError, match="exists and was made with another dimensions"):
        embed(model, output, dimensions=3)
    embed(model, output, dimensions=3, overwrite=True)
    assert read(output).shape == (40, 3)


def test_bad_lines_fail_alone_and_are_tried_again(model, output):
    lines = [
        {"id": "x", "text": "abc"},
        {"id": "y", "text": "a" * 51},
        {"prompt": "a"},
        {"text": 5},
        {"text": ""},
    ]
    write(output.parent / "in.jsonl", [*lines, {"id": 9, "text": [5, 6]}, {"text": [500]}])
    embed(model, output)
    errors = [
        json.loads(line) for line in (output.parent / f"{output.name}.errors.jsonl").read_text().splitlines()
    ]
    assert [(error["index"], error["id"], error["error"].partition(",")[0]) for error in errors] == [
        (1, "y", "51 tokens are more than 50"),
        (2, None, "has no text"),
        (3, None, "text: must be a text or a list of token ids"),
        (4, None, "it has no tokens"),
        (6, None, "token id 500 is outside the vocabulary of 128"),
    ]
    if output.suffix == ".npy":
        found = np.load(output)
        assert found.shape == (7, 64)
        assert np.isnan(found).all(axis=1).tolist() == [False, True, True, True, True, False, True]
    else:
        table = parquet.read_table(output)
        assert (table["index"].to_pylist(), table["id"].to_pylist()) == ([0, 5], ["x", "9"])
    shown = embed(model, output)
    assert "2 vectors are in" in shown
    assert "0 vectors computed" in shown


def test_other_columns_of_tables_are_left_alone(model, output, expected):
    columns = {"title": [None] * 40, "body": TEXTS, "id": [f"d{index}" for index in range(40)]}
    parquet.write_table(pyarrow.table(columns), output.parent / "in.parquet")
    embed(model, output, source="in.parquet", column="body")
    np.testing.assert_allclose(read(output), expected, atol=1e-5)


@pytest.mark.usefixtures("many")
def test_options_reach_the_vectors(model, output, expected):
    embed(model, output, dimensions=8)
    cut = expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(read(output), cut, atol=1e-5)
    write(output.parent / "in.jsonl", [{"text": "a" * 90}])
    embed(model, output, truncate=True, overwrite=True)
    assert read(output).shape == (1, 64)


@pytest.mark.usefixtures("many")
def test_mistakes_are_one_line(model, tmp_path):
    with pytest.raises(UserError, match=r"task=embed: give task\.input=FILE"):
        ScriptedRun(tmp_path, task=EmbedConfig()).do()
    with pytest.raises(UserError, match=r"task\.output='a\.csv': must end in \.parquet or \.npy"):
        EmbedConfig(input="x", output="a.csv")
    with pytest.raises(UserError, match="dimensions=65: must be 1 to 64"):
        embed(model, tmp_path / "a.npy", dimensions=65)
    with pytest.raises(UserError, match=r"task\.input=.*cannot be read: No such file"):
        embed(model, tmp_path / "a.npy", source="missing")
    generative = tmp_path / "generative"
    make_checkpoint(("Qwen3ForCausalLM", DECODERS["qwen3"][1]), generative)
    with pytest.raises(UserError, match="Qwen3ForCausalLM generates text: embeddings and scores come from"):
        embed(generative, tmp_path / "a.npy")
