"""The embedding engine: vectors and scores of transformers, whatever the batches; mistakes are one line."""

import json
import math

import numpy as np
import pytest
from text_checkpoints import (
    DECODERS,
    ENCODERS,
    RERANKERS,
    THREE_LABELS,
    load,
    make_checkpoint,
    oracle_logit,
    oracle_states,
    random_texts,
    write_json,
    write_recipe,
)

from quire.embedding.build import make_embedder
from quire.embedding.config import EmbeddingConfig
from quire.embedding.embedder import Embedder
from quire.embedding.recipe import read_recipe
from quire.errors import MissingCapability, UserError
from quire.models.checkpoint import open_checkpoint
from quire.models.encoder_spec import Pooling

LENGTHS = (30, 2, 7, 7, 100, 8, 1, 61)


def embedder(directory, **options) -> Embedder:
    checkpoint, recipe = open_checkpoint(str(directory)), read_recipe(directory)
    config = EmbeddingConfig(**options)
    return make_embedder(load(directory), checkpoint=checkpoint, recipe=recipe, config=config)


def pooled(oracle, text, pooling) -> np.ndarray:
    states_TE = oracle_states(oracle, text)
    by_pooling = {Pooling.mean: states_TE.mean(0), Pooling.cls: states_TE[0], Pooling.last: states_TE[-1]}
    return by_pooling[pooling]


def unit(vector) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("family", ["bert", "modern_bert", "qwen3"])
@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_transformers_in_the_order_given(family, pooling, normalize, tmp_path):
    oracle = make_checkpoint((ENCODERS | DECODERS)[family], tmp_path)
    texts = random_texts(LENGTHS)
    vectors = embedder(tmp_path, pooling=pooling, normalize=normalize, batch_tokens=70).embed(texts)
    assert vectors.shape == (len(texts), 64)
    assert vectors.dtype == np.float32
    for text, vector in zip(texts, vectors, strict=True):
        expected = pooled(oracle, text, pooling)
        np.testing.assert_allclose(vector, unit(expected) if normalize else expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 20, 100_000])
def test_batches_change_nothing(batch_tokens, tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    texts = random_texts(LENGTHS)
    expected = embedder(tmp_path, batch_tokens=64).embed(texts)
    np.testing.assert_allclose(
        embedder(tmp_path, batch_tokens=batch_tokens).embed(texts), expected, atol=1e-5
    )


def test_fewer_dimensions_are_the_first_ones_normalised_again(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    texts = random_texts(LENGTHS)
    whole = embedder(tmp_path, normalize=False).embed(texts)
    np.testing.assert_array_equal(
        embedder(tmp_path, normalize=False).embed(texts, dimensions=5), whole[:, :5]
    )
    cut = embedder(tmp_path).embed(texts, dimensions=5)
    np.testing.assert_allclose(cut, [unit(vector[:5]) for vector in whole], atol=1e-6)


@pytest.mark.parametrize("family", RERANKERS)
def test_scores_are_those_of_transformers(family, tmp_path):
    oracle = make_checkpoint(RERANKERS[family], tmp_path)
    texts = random_texts(LENGTHS)
    types = None
    if family == "bert":
        types = [[0] * (len(text) // 2) + [1] * (len(text) - len(text) // 2) for text in texts]
    scores = embedder(tmp_path, batch_tokens=50).score(texts, types)
    assert (scores.shape, scores.dtype) == ((len(texts),), np.float32)
    for index, text in enumerate(texts):
        logit = oracle_logit(oracle, text, None if types is None else types[index])
        assert scores[index] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)


@pytest.mark.parametrize("field", ["sentence_transformers", "sbert_ce_default_activation_function"])
def test_scores_are_logits_where_the_config_says_so(field, tmp_path):
    oracle = make_checkpoint(RERANKERS["bert"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    name = "torch.nn.modules.linear.Identity"
    config[field] = {"activation_fn": name} if field == "sentence_transformers" else name
    write_json(tmp_path / "config.json", config)
    (text,) = random_texts([9])
    assert embedder(tmp_path).score([text])[0] == pytest.approx(oracle_logit(oracle, text), abs=1e-4)


def test_token_types_mean_nothing_to_a_model_without_them(tmp_path):
    make_checkpoint(RERANKERS["modern_bert"], tmp_path)
    texts = random_texts([6, 9])
    scores = embedder(tmp_path).score(texts, [[0, 0, 0, 1, 1, 1], [0] * 9])
    np.testing.assert_array_equal(scores, embedder(tmp_path).score(texts))


def test_the_recipe_of_sentence_transformers_goes_before_what_is_usual(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    write_recipe(tmp_path, pooling="cls_token", normalize=False, max_seq_length=40)
    found = embedder(tmp_path)
    assert (found.pooling, found.normalize, found.max_tokens) == (Pooling.cls, False, 40)
    told = embedder(tmp_path, pooling=Pooling.mean, normalize=True, max_tokens=50)
    assert (told.pooling, told.normalize, told.max_tokens) == (Pooling.mean, True, 50)


@pytest.mark.parametrize(("family", "pooling"), [("bert", Pooling.mean), ("qwen3", Pooling.last)])
def test_without_a_recipe_the_usual_is_done_and_said(family, pooling, tmp_path, caplog):
    make_checkpoint((ENCODERS | DECODERS)[family], tmp_path)
    with caplog.at_level("INFO", logger="quire"):
        found = embedder(tmp_path)
    assert (found.pooling, found.normalize, found.max_tokens) == (pooling, True, 512)
    assert f"embedding.pooling={pooling.value}" in caplog.text


def test_no_texts_have_no_vectors(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    assert embedder(tmp_path).embed([]).shape == (0, 64)


def test_a_long_text_is_refused_with_the_numbers_or_cut(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    model = embedder(tmp_path, max_tokens=20)
    texts = random_texts([20, 21])
    with pytest.raises(UserError, match=r"text 1: 21 tokens are more than 20, .*truncate=true"):
        model.embed(texts)
    np.testing.assert_array_equal(
        model.embed(texts, truncate=True), model.embed([text[:20] for text in texts])
    )


def test_mistakes_are_one_line(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    model = embedder(tmp_path)
    with pytest.raises(UserError, match="text 1: it has no tokens"):
        model.embed([[1], []])
    for token in (128, -1):
        with pytest.raises(UserError, match=f"text 0: token id {token} is outside the vocabulary of 128"):
            model.embed([[5, token]])
    for dimensions in (0, 65):
        with pytest.raises(UserError, match=f"dimensions={dimensions}: must be 1 to 64"):
            model.embed([[1]], dimensions=dimensions)
    with pytest.raises(MissingCapability, match="makes embeddings and has no head that scores"):
        model.score([[1]])
    with pytest.raises(UserError, match=r"embedding\.max_tokens=513: must be at most 512"):
        embedder(tmp_path, max_tokens=513)
    with pytest.raises(UserError, match=r"embedding\.batch_tokens=0: must be at least 1"):
        EmbeddingConfig(batch_tokens=0)


def test_mistakes_with_a_reranker_are_one_line(tmp_path):
    make_checkpoint(RERANKERS["bert"], tmp_path)
    model = embedder(tmp_path)
    with pytest.raises(MissingCapability, match="is a cross-encoder, which scores texts"):
        model.embed([[1]])
    with pytest.raises(UserError, match="text 0: has 2 tokens, but 1 token types"):
        model.score([[5, 6]], [[0]])
    with pytest.raises(UserError, match="text 0: token type 2: must be 0 to 1"):
        model.score([[5, 6]], [[0, 2]])


def test_a_classifier_of_three_labels_gives_no_score(tmp_path):
    make_checkpoint(THREE_LABELS, tmp_path)
    with pytest.raises(UserError, match="its head has 3 labels: a score comes from a head of 1"):
        embedder(tmp_path).score([[5, 6]])
