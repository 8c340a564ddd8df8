"""/tokenize, /detokenize, /tokenizer_info, and tokens as people read them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "text"))

import toy_tokenizers
from offline import chat_ids

from quire.engine.plan import TokenLogprobs
from quire.server.http.front_tokenizer import FrontTokenizer
from quire.server.http.logprobs import CompletionLogprobs
from quire.text.tokenizer import Tokenizer

TEXT = "Über die Brücke läuft ein Bär 🐻; 東京 the end"


def test_a_text_and_back(server, http):
    text = "Tom and Mia went to the <|user|> " + "long " * 900
    answer = http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert answer["tokens"] == server.tokenizer.encode(text, add_special_tokens=False)
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 1024)
    assert http.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": text}
    assert http.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}
    assert http.post("/tokenize", json={"prompt": ""}).json()["tokens"] == []


def test_a_conversation(server, http):
    messages = [{"role": "user", "content": "Hi"}]
    answer = http.post("/tokenize", json={"messages": messages, "return_token_strs": True}).json()
    assert answer["tokens"] == chat_ids(server, messages)
    assert "".join(answer["token_strs"]) == server.tokenizer.apply_chat_template(messages)


@pytest.mark.parametrize("body", [{}, {"prompt": "a", "messages": [{"role": "user"}]}, {"messages": []}])
def test_neither_and_both(http, body):
    assert http.post("/tokenize", json=body).status_code == 400


@pytest.mark.parametrize("tokens", [[2**31], [5000], [-1], ["a"], "a", None])
def test_tokens_that_are_none(http, tokens):
    answer = http.post("/detokenize", json={"tokens": tokens})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tokens")


def test_what_lm_eval_asks_of_the_tokenizer(server, http):
    info = http.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|end|>"
    assert info["bos_token"] is None
    assert "message['role']" in info["chat_template"]


@pytest.fixture(params=["byte_level", "llama3", "llama2"])
def tokenizer(request, tmp_path) -> FrontTokenizer:
    getattr(toy_tokenizers, request.param)().save(str(tmp_path / "tokenizer.json"))
    return FrontTokenizer(Tokenizer.load(tmp_path))


def test_bytes_of_all_tokens_are_the_texts(tokenizer):
    ids = tokenizer.plain.encode(TEXT, add_special_tokens=False)
    data = b"".join(bytes(tokenizer.token_bytes(token) or b"?") for token in ids)
    assert data.decode().strip() == TEXT


def test_offsets_count_characters_of_the_text(tokenizer):
    ids = tokenizer.plain.encode(TEXT)
    entries = [TokenLogprobs(token_id=token, logprob=-1.0, rank=1, top=()) for token in ids]
    lists = CompletionLogprobs(tokenizer).prompt(ids, entries[1:], TEXT)
    offsets = lists["text_offset"]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    for offset, token, token_id in zip(offsets, lists["tokens"], ids, strict=True):
        if "\ufffd" not in token and token_id not in tokenizer.plain.special_token_ids:
            assert TEXT[offset:].startswith(token) or (offset == 0 and TEXT.startswith(token.strip()))
