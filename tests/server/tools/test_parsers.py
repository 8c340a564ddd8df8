"""What the parsers find in a text: the same however it is cut, and what was written into it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.server.tools.choose import ToolFormatName, tool_format
from quire.server.tools.first_call import FirstCallParser
from quire.server.tools.hermes import HermesFormat
from quire.server.tools.llama3 import Llama3Format
from quire.server.tools.tool_format import CallDelta, ToolParser

NAMES = frozenset({"add", "get weather", "f"})
HERMES, LLAMA3 = HermesFormat(), Llama3Format()


def read(parser: ToolParser, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls; checks that news of calls is in order."""
    content, calls, ids = "", [], []
    for piece in [*(found for text in pieces for found in parser.feed(text)), *parser.flush()]:
        if isinstance(piece, str):
            assert piece, "a piece of content that is empty"
            content += piece
        elif piece.id is not None:
            assert piece.index == len(calls)
            calls.append((piece.name, piece.arguments))
            ids.append(piece.id)
        else:
            assert piece.index == len(calls) - 1, "arguments of a call that is not the latest"
            assert piece.name is None
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    assert len(set(ids)) == len(ids)
    return content, calls


def cuts(text: str) -> st.SearchStrategy[list[str]]:
    places = st.sets(st.integers(1, max(1, len(text) - 1)))
    return places.map(
        lambda at: [text[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(text)], strict=True)]
    )


CASES = [
    # format, text, content, calls
    (HERMES, "", "", []),
    (HERMES, "Hello there.\n", "Hello there.\n", []),
    (HERMES, "a < b <tool", "a < b <tool", []),
    (HERMES, '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "", [("add", '{"a": 1}')]),
    (
        HERMES,
        'Sure.\n<tool_call>{"name":"add","arguments":{"a":"}</tool_call>\\"{"}}</tool_call>\n\n'
        '<tool_call>\n{"arguments": {"b": [1, {"c": null}]}, "name": "f"}\n</tool_call>\n Done. \n',
        "Sure.Done. \n",
        [("add", '{"a":"}</tool_call>\\"{"}'), ("f", '{"b": [1, {"c": null}]}')],
    ),
    # Arguments that hold JSON in a string, none at all, and a tag that is never closed.
    (
        HERMES,
        r'<tool_call>{"name": "f", "arguments": "{\"a\": \"\u00e9\"}"}</tool_call>',
        "",
        [("f", '{"a": "é"}')],
    ),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": null}', "", [("f", "{}")]),
    (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {}}<tool_call>{"name": "f", "arguments": {}}',
        "",
        [("f", "{}"), ("f", "{}")],
    ),
    # Cut off: before it is a call it is text, later as far as it went.
    (HERMES, 'x <tool_call>{"name": "f', 'x <tool_call>{"name": "f', []),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": "b', "", [("f", '{"a": "b')]),
    # No calls.
    (HERMES, "<tool_call>\nadd(1)</tool_call>", "<tool_call>\nadd(1)</tool_call>", []),
    (HERMES, '<tool_call>{"arguments": {}} x', '<tool_call>{"arguments": {}} x', []),
    (HERMES, '<tool_call>{"name": 3, "arguments": {}}', '<tool_call>{"name": 3, "arguments": {}}', []),
    (HERMES, '<tool_call>[<tool_call>{"name": "f"}</tool_call>', "<tool_call>[", [("f", "{}")]),
    (HERMES, '<tool_call>{"a" <tool_call>{"name": "f"}', '<tool_call>{"a"', [("f", "{}")]),
    # Spoilt after it was told of: the call stays, the rest is text.
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1} oh', "oh", [("f", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {}, "name": "g"}', '"}', [("f", "{}")]),
    (LLAMA3, "", "", []),
    (LLAMA3, "  Hello {", "  Hello {", []),
    (LLAMA3, '{"name": "add", "parameters": {"a": 1}}', "", [("add", '{"a": 1}')]),
    (LLAMA3, '\n<|python_tag|> {"name": "f", "parameters": {"a": {}}}\n', "", [("f", '{"a": {}}')]),
    (LLAMA3, '{"type": "function", "name": "f", "parameters": {"a": 1}}', "", [("f", '{"a": 1}')]),
    (LLAMA3, '{"parameters": {"a": "}"}, "name": "get weather"}', "", [("get weather", '{"a": "}"}')]),
    (
        LLAMA3,
        '{"name": "f", "parameters": {}}; {"name": "add", "arguments": {"x": "\\\\"}}\n',
        "",
        [("f", "{}"), ("add", '{"x": "\\\\"}')],
    ),
    (LLAMA3, '{"name": "f", "parameters": {}} and {"x', ' and {"x', [("f", "{}")]),
    (LLAMA3, '{"name": "Ann", "parameters": {"age": 3}}', '{"name": "Ann", "parameters": {"age": 3}}', []),
    (LLAMA3, '{"age": 3, "name": "f"', '{"age": 3, "name": "f"', []),
    (LLAMA3, '{"name": "f", "parameters": {"q', "", [("f", '{"q')]),
    (LLAMA3, "{not JSON} at all", "{not JSON} at all", []),
    (LLAMA3, "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    (LLAMA3, "<|python {}", "<|python {}", []),
    (LLAMA3, " \n", " \n", []),
]


@pytest.mark.parametrize(("format", "text", "content", "calls"), CASES)
def test_it_finds_what_is_there(format, text, content, calls):
    assert read(format.parser(NAMES), [text]) == (content, calls)
    assert read(format.parser(NAMES), list(text)) == (content, calls)
    for at in range(len(text) + 1):
        assert read(format.parser(NAMES), [text[:at], text[at:]]) == (content, calls), text[:at]


def names() -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(NAMES))


def values() -> st.SearchStrategy:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=6)
        | st.sampled_from(['"', "\\", "}{", "</tool_call>"])
    )
    return st.recursive(
        leaves, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=4), c), max_leaves=6
    )


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_calls_among_text_come_out_as_they_went_in(data):
    indent = data.draw(st.sampled_from([None, 2]))
    calls = data.draw(
        st.lists(st.tuples(names(), st.dictionaries(st.text(max_size=5), values())), max_size=3)
    )
    escaped = data.draw(st.booleans())
    words = st.text(st.sampled_from("ab<>_ tool{}\n"), max_size=10).filter(lambda t: "<tool_call>" not in t)
    text, content, expected = "", "", []
    for name, arguments in calls:
        before = data.draw(words)
        body = json.dumps({"name": name, "arguments": arguments}, indent=indent, ensure_ascii=escaped)
        stripped = before.strip() if text else before.rstrip()
        text += f"{stripped}\n<tool_call>\n{body}\n</tool_call>\n"
        content += stripped
        expected.append((name, arguments))
    found, got = read(HERMES.parser(NAMES), data.draw(cuts(text)))
    assert [(name, json.loads(arguments)) for name, arguments in got] == expected
    assert found == content


@settings(deadline=None, max_examples=100)
@given(data=st.data())
@pytest.mark.parametrize("format", [HERMES, LLAMA3])
def test_any_text_however_it_is_cut(format, data):
    parts = [
        "<tool_call>",
        "</tool_call>",
        "<",
        "{",
        "}",
        '"name"',
        '"arguments"',
        ":",
        ",",
        '"f"',
        "{}",
        " ",
        "\n",
        ";",
        '"',
        "\\",
        "[",
        "]",
        "1",
        "null",
        '{"name":"f","arguments":{',
        "<|python_tag|>",
        "x",
        '"parameters"',
    ]
    text = "".join(data.draw(st.lists(st.sampled_from(parts), max_size=14)))
    whole = read(format.parser(NAMES), [text])
    assert read(format.parser(NAMES), data.draw(cuts(text))) == whole
    assert read(format.parser(NAMES), list(text)) == whole
    if not whole[1]:
        assert whole[0] == text, "what is no call is content as it stands"


def test_the_name_comes_first_and_arguments_as_they_come():
    parser = HERMES.parser(NAMES)
    assert parser.feed('<tool_call>{"name": "f", "argu') == []
    first, second = parser.feed('ments": {"a"')
    assert isinstance(first, CallDelta)
    assert (first.name, first.arguments) == ("f", "")
    assert second == CallDelta(index=0, arguments='{"a"')
    assert parser.feed(": 1}}") == [CallDelta(index=0, arguments=": 1}")]
    assert [*parser.feed("\n</tool_call>\n"), *parser.flush()] == []


def test_no_more_than_one_call():
    text = '<tool_call>{"name": "f"}</tool_call>' * 2 + "end"
    for pieces in ([text], list(text)):
        assert read(FirstCallParser(HERMES.parser(NAMES)), pieces) == ("end", [("f", "{}")])


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        ({}, None),
        ({"default": "{{ messages }}"}, None),
        ({"default": "{% if tools %}<tool_call>{% endif %}"}, HermesFormat),
        ({"default": "{{ tools }} <|python_tag|>"}, Llama3Format),
        ({"default": '{{ tools }} {"name": function name, "parameters": dictionary of'}, Llama3Format),
        ({"default": "{{ messages }}", "tool_use": "<tool_call>"}, HermesFormat),
    ],
)
def test_auto_goes_by_the_template(templates, expected):
    found = tool_format(ToolFormatName.auto, templates)
    assert found is None if expected is None else type(found) is expected
    assert tool_format(ToolFormatName.none, templates) is None
    assert type(tool_format(ToolFormatName.llama3, templates)) is Llama3Format
