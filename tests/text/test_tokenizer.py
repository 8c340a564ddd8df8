"""Our reading of tokenizer files against transformers' AutoTokenizer."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import toy_tokenizers
from transformers import AutoTokenizer

import quire
from quire.errors import UserError
from quire.text.tokenizer import Tokenizer

PROMPTS = [
    *toy_tokenizers.TEXTS,
    "",
    " ",
    "  two spaces before, two behind  ",
    "a</s>b <|user|>\n<|user|> <s>",
    "\u0000\uffff\U0010ffff e\u0301 \u200d",
]


def assert_agree(directory: Path) -> None:
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    assert ours.vocab_size == len(theirs)
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    assert ours.special_token_ids == set(theirs.all_special_ids)
    for prompt in PROMPTS:
        for special in (False, True):
            ids = theirs.encode(prompt, add_special_tokens=special)
            assert ours.encode(prompt, add_special_tokens=special) == ids
            assert ours.decode(ids, skip_special_tokens=special) == theirs.decode(
                ids, skip_special_tokens=special
            )


@pytest.mark.parametrize("kind", toy_tokenizers.KINDS)
def test_every_kind_of_tokenizer_agrees_with_transformers(tmp_path, kind):
    builder = toy_tokenizers.KINDS[kind]
    assert_agree(
        toy_tokenizers.write(
            tmp_path,
            builder(),
            extra_special_tokens=["<|user|>", "<|assistant|>"],
            **({"unk_token": "<unk>"} if builder().token_to_id("<unk>") is not None else {}),
        )
    )


def test_the_demo_model_agrees_with_transformers():
    directory = Path(quire.__file__).parent / "demo_model"
    ours, theirs = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    messages = [{"role": "user", "content": "Hello 東京"}]
    prompt = ours.apply_chat_template(messages)
    assert prompt == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours.encode(prompt) == theirs.encode(prompt)


def test_tokens_that_only_the_config_knows_are_added(tmp_path):
    def token(content: str, **flags: bool) -> dict[str, object]:
        plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        return {"content": content, **plain, **flags}

    assert_agree(
        toy_tokenizers.write(
            tmp_path,
            toy_tokenizers.byte_level(),
            added_tokens_decoder={
                "344": token("<extra>", special=True, rstrip=True),
                "345": token("two words", special=False),
                "342": token("<|user|>", special=True),
            },
            pad_token="<pad>",
            image_token="<image>",
            extra_special_tokens=["<extra>", "<|user|>", "<|assistant|>"],
        )
    )
    ours = Tokenizer.load(tmp_path)
    assert ours.encode("<extra>  two words<pad><image>") == [344, 345, *ours.encode("<pad><image>")]
    assert len(ours.encode("<pad><image>")) == 2


def test_special_tokens_of_an_older_checkpoint_come_from_their_own_file(tmp_path):
    toy_tokenizers.write(tmp_path, toy_tokenizers.byte_level(), bos_token=None, eos_token=None)
    special = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "<|user|>"}
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({**special, "additional_special_tokens": ["</s>", "<|assistant|>"]})
    )
    assert_agree(tmp_path)
    assert Tokenizer.load(tmp_path).eos_token_id == Tokenizer.load(tmp_path).encode("<|user|>")[0]


def test_truncation_and_padding_stored_with_a_tokenizer_do_not_apply(tmp_path):
    tokenizer = toy_tokenizers.byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=100, pad_id=0, pad_token="!")
    text = toy_tokenizers.TEXTS[0]
    ours = Tokenizer.load(toy_tokenizers.write(tmp_path, tokenizer))
    assert ours.decode(ours.encode(text)) == text


def test_without_a_config_there_is_still_a_tokenizer(tmp_path):
    toy_tokenizers.write(tmp_path, toy_tokenizers.byte_level())
    (tmp_path / "tokenizer_config.json").unlink()
    ours = Tokenizer.load(tmp_path)
    assert ours.bos_token_id is None
    assert ours.eos_token_id is None
    assert ours.decode(ours.encode("plain")) == "plain"


def test_an_older_format_is_converted_by_transformers_and_said_so(tmp_path, caplog):
    backend = toy_tokenizers.byte_level()
    backend.model.save(str(tmp_path))  # vocab.json and merges.txt
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "GPT2Tokenizer", "chat_template": "{{ eos_token }}", "eos_token": "</s>"}
        )
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with caplog.at_level(logging.WARNING):
        ours = Tokenizer.load(tmp_path)
    assert "no tokenizer.json" in caplog.text
    assert ours.encode(toy_tokenizers.TEXTS[1]) == backend.encode(toy_tokenizers.TEXTS[1]).ids
    assert ours.apply_chat_template([{"role": "user"}]) == "</s>"


def test_a_directory_without_tokenizer_is_one_clear_line(tmp_path):
    with pytest.raises(UserError) as caught:
        Tokenizer.load(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "tokenizer.json" in message
    assert "tokenizer.model" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "not json"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"344": "<extra>"}}'),
        ("tokenizer_config.json", '{"chat_template": [1]}'),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, content):
    toy_tokenizers.write(tmp_path, toy_tokenizers.byte_level())
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=file):
        Tokenizer.load(tmp_path)


def test_files_that_transformers_cannot_convert_are_one_clear_line(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"no sentencepiece model")
    with pytest.raises(UserError, match="transformers cannot make a tokenizer") as caught:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_half_a_surrogate_pair_is_refused(tmp_path):
    ours = Tokenizer.load(toy_tokenizers.write(tmp_path, toy_tokenizers.byte_level()))
    with pytest.raises(UserError, match="character 3 is half of a surrogate pair"):
        ours.encode("abc\ud83d")


def test_loading_imports_neither_torch_nor_transformers(tmp_path):
    toy_tokenizers.write(tmp_path, toy_tokenizers.byte_level(), chat_template="{{ messages }}")
    code = (
        "import sys; from quire.text.tokenizer import Tokenizer;"
        f"t = Tokenizer.load({str(tmp_path)!r}); t.encode('a'); t.apply_chat_template([{{'role': 'user'}}]);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
