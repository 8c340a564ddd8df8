"""/v1/embeddings, /rerank and /score of tiny encoders, against the same model asked directly."""

import base64
import sys
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from live_process import served
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

sys.path.insert(0, str(Path(__file__).parents[2] / "embedding"))

from text_checkpoints import ENCODERS, RERANKERS, make_checkpoint, oracle_logit, oracle_states, write_recipe

TEXTS = ["the cat sat", "a dog ran far away", "the cat"]


def write_tokenizer(directory: Path) -> Tokenizer:
    """Letters, as BERT's tokenizers join texts."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {name: index for index, name in enumerate([*names, *(f"##{name}" for name in names[4:])])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A server of a tiny encoder, its model by transformers, its tokenizer."""
    directory = tmp_path_factory.mktemp("encoder")
    oracle = make_checkpoint(ENCODERS["bert"], directory)
    write_recipe(directory)
    tokenizer = write_tokenizer(directory)
    run = tmp_path_factory.mktemp("run")
    with served(run, f"model={directory}", "server.served_names=[tiny]") as (_, url):
        yield url, oracle, tokenizer


def vector(oracle, ids) -> np.ndarray:
    mean = oracle_states(oracle, ids).mean(0)
    return mean / np.linalg.norm(mean)


def test_vectors_are_the_models_in_every_form(encoder):
    url, oracle, tokenizer = encoder
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    expected = np.stack([vector(oracle, each) for each in ids])
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        for given in (TEXTS, ids):
            answer = sdk.embeddings.create(model="tiny", input=given)  # base64 on the wire
            found = np.array([each.embedding for each in answer.data])
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert answer.usage.prompt_tokens == sum(map(len, ids))
        floats = sdk.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float")
        np.testing.assert_allclose(floats.data[0].embedding, expected[0], atol=1e-4)
        short = sdk.embeddings.create(model="tiny", input=TEXTS[0], dimensions=8)
        cut = expected[0][:8] / np.linalg.norm(expected[0][:8])
        np.testing.assert_allclose(short.data[0].embedding, cut, atol=1e-4)


def test_the_wire_form_of_base64(encoder):
    url, oracle, tokenizer = encoder
    body = {"input": TEXTS[0], "encoding_format": "base64"}
    (datum,) = httpx.post(f"{url}/v1/embeddings", json=body).json()["data"]
    decoded = np.frombuffer(base64.b64decode(datum["embedding"]), dtype="<f4")
    np.testing.assert_allclose(decoded, vector(oracle, tokenizer.encode(TEXTS[0]).ids), atol=1e-4)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": TEXTS[0], "dimensions": 65}),
        ("/v1/embeddings", {"input": []}),
        ("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "hex"}),
        ("/v1/embeddings", {"input": "a " * 600}),
        ("/v1/embeddings", {"input": [[500]]}),
        ("/v1/completions", {"prompt": "a"}),
        ("/rerank", {"query": "a", "documents": []}),
        ("/rerank", {"query": "a", "documents": [{"title": "b"}]}),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}),
        ("/score", {"text_1": [], "text_2": []}),
    ],
)
def test_what_cannot_be_is_refused(encoder, path, body):
    answer = httpx.post(encoder[0] + path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_an_encoder_scores_by_the_cosine(encoder):
    url, oracle, tokenizer = encoder
    vectors = [vector(oracle, tokenizer.encode(text).ids) for text in TEXTS]
    answer = httpx.post(f"{url}/score", json={"text_1": TEXTS[0], "text_2": TEXTS[1:]}).json()
    found = [each["score"] for each in answer["data"]]
    np.testing.assert_allclose(found, [vectors[0] @ vectors[1], vectors[0] @ vectors[2]], atol=1e-4)


def test_a_reranker_orders_documents(tmp_path):
    oracle = make_checkpoint(RERANKERS["bert"], tmp_path)
    tokenizer = write_tokenizer(tmp_path)
    documents = ["one dog", "two cats and more", "x", {"text": "the last one"}]
    texts = [each if isinstance(each, str) else each["text"] for each in documents]
    pairs = [tokenizer.encode("which one", text) for text in texts]
    logits = np.array([oracle_logit(oracle, pair.ids, pair.type_ids) for pair in pairs])
    with served(tmp_path / "run", f"model={tmp_path}", "server.served_names=[tiny]") as (_, url):
        body = {"query": "which one", "documents": documents, "top_n": 3}
        results = httpx.post(f"{url}/v1/rerank", json=body).json()["results"]
        order = np.argsort(-logits)[:3].tolist()
        assert [result["index"] for result in results] == order
        assert [result["document"]["text"] for result in results] == [texts[index] for index in order]
        scores = httpx.post(f"{url}/score", json={"text_1": "which one", "text_2": texts}).json()["data"]
        found = np.array([each["score"] for each in scores])
        assert {result["index"]: result["relevance_score"] for result in results} == {
            index: pytest.approx(found[index]) for index in order
        }
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-4)
