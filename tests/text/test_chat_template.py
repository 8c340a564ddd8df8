"""Chat templates against transformers' rendering, and what goes wrong with them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
import toy_tokenizers
from transformers import AutoTokenizer

from quire.errors import UserError
from quire.text.tokenizer import Tokenizer
from quire.text.tokenizer_files import read_tokenizer

LLAMA = """{{- bos_token }}
{%- if tools is not none %}
    {{- "Tools: " + (tools | tojson(indent=2)) }}
{%- endif %}
{% for message in messages %}
    {% if message.role == 'skip' %}{% continue %}{% endif %}
    {{- '<|' + message['role'] + '|>\n' + message['content'] | trim + eos_token }}
    {%- if message.tool_calls is defined %}
        {{- message.tool_calls | tojson }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|assistant|>' }}{{ mood | default('') }}
{%- endif %}
"""
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}[{{ m.content }}]{% endif %}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}"
)
MESSAGES = [
    {"role": "system", "content": "  Be <b>brief</b> & friendly. "},
    {"role": "user", "content": "Wie heißt du? 東京", "tool_calls": None},
    {"role": "skip", "content": "nothing"},
    {"role": "assistant", "content": "Quire", "tool_calls": [{"name": "ü", "arguments": {"x": [1, "<"]}}]},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"größe": 1}}}]


def directory(path: Path, **config: object) -> Path:
    return toy_tokenizers.write(path, toy_tokenizers.byte_level(), **config)


@pytest.mark.parametrize("template", [LLAMA, MARKED], ids=["llama", "marked"])
@pytest.mark.parametrize("generation", [False, True])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_prompts_are_those_of_transformers(tmp_path, template, generation, tools):
    directory(tmp_path, chat_template=template)
    options = {"add_generation_prompt": generation, "tools": tools, "mood": "😀"}
    assert Tokenizer.load(tmp_path).apply_chat_template(MESSAGES, **options) == AutoTokenizer.from_pretrained(
        tmp_path
    ).apply_chat_template(MESSAGES, tokenize=False, **options)


def test_named_templates_and_template_files_are_chosen_as_transformers_does(tmp_path):
    several = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    in_config = directory(tmp_path / "config", chat_template=several)
    in_files = directory(tmp_path / "files", chat_template="from the config")
    (in_files / "chat_template.jinja").write_text("from the file")
    in_both = directory(tmp_path / "both")
    (in_both / "chat_template.jinja").write_text("plain file")
    (in_both / "additional_chat_templates").mkdir()
    (in_both / "additional_chat_templates" / "tool_use.jinja").write_text("tools file")
    for path in (in_config, in_files, in_both):
        ours, theirs = Tokenizer.load(path), AutoTokenizer.from_pretrained(path)
        for tools in (None, TOOLS):
            assert ours.apply_chat_template(MESSAGES, tools=tools) == theirs.apply_chat_template(
                MESSAGES, tools=tools, tokenize=False
            )


def test_the_date_comes_from_the_clock_that_was_given(tmp_path):
    files = read_tokenizer(directory(tmp_path, chat_template="{{ strftime_now('%d %B %Y') }}"))
    tokenizer = Tokenizer(files=files, now=lambda: datetime(2024, 2, 29))
    assert tokenizer.apply_chat_template(MESSAGES) == "29 February 2024"


def test_a_model_without_template_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no chat template") as caught:
        Tokenizer.load(directory(tmp_path)).apply_chat_template(MESSAGES)
    assert str(tmp_path) in str(caught.value)


def test_only_other_templates_are_named(tmp_path):
    directory(tmp_path, chat_template=[{"name": "rag", "template": "x"}])
    with pytest.raises(UserError, match="no default chat template, only rag"):
        Tokenizer.load(tmp_path).apply_chat_template(MESSAGES)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content.missing.deeper }}", "missing"),
        ("{{ 'a' + messages }}", "can only concatenate"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_a_template_refuses_is_a_user_error(tmp_path, template, reason):
    tokenizer = Tokenizer.load(directory(tmp_path, chat_template=template))
    with pytest.raises(UserError, match=reason):
        tokenizer.apply_chat_template(MESSAGES)


def test_a_template_that_is_no_jinja_is_named(tmp_path):
    tokenizer = Tokenizer.load(directory(tmp_path, chat_template="{% if %}"))
    with pytest.raises(UserError, match="chat template cannot be read"):
        tokenizer.apply_chat_template(MESSAGES)


def test_an_empty_conversation_is_refused(tmp_path):
    tokenizer = Tokenizer.load(directory(tmp_path, chat_template="x"))
    with pytest.raises(UserError, match="at least one message"):
        tokenizer.apply_chat_template([])


def test_messages_are_left_as_they_were(tmp_path):
    tokenizer = Tokenizer.load(directory(tmp_path, chat_template=LLAMA))
    before = json.dumps(MESSAGES)
    tokenizer.apply_chat_template(MESSAGES)
    assert json.dumps(MESSAGES) == before
