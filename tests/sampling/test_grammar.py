"""Grammars against the plain definition: a token may come if some text of the language goes on with it."""

from __future__ import annotations

import functools
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_rows import make_rows

import quire
from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.jobs.completions import Completions, Sample
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run
from quire.text.tokenizer import Tokenizer
from quire_plugins.logits_processors.grammar import Grammar, GrammarConfig

EOS = 0
VOCAB = 2056
"""More than the tokenizer has, as models pad their vocabularies."""


@functools.cache
def demo_tokenizer() -> Tokenizer:
    return Tokenizer.load(Path(quire.__file__).parent / "demo_model")


def make(*, eos: tuple[int, ...] = (EOS,), with_text: bool = True) -> Grammar:
    grammar = Grammar(config=GrammarConfig())
    grammar.bind(tokenizer=demo_tokenizer() if with_text else None, vocab_size=VOCAB, eos_token_ids=eos)
    return grammar


def wanting(form: str, value, **fields) -> SamplingParams:
    return SamplingParams(extra={"grammar": {form: value}}, **fields)


def encode(text: str) -> list[int]:
    return demo_tokenizer().encode(text, add_special_tokens=False)


@functools.cache
def pieces() -> dict[int, str]:
    """Each ordinary token's text, of those that are whole characters."""
    tokenizer = demo_tokenizer()
    texts = {
        token: tokenizer.decode([token], skip_special_tokens=False)
        for token in range(tokenizer.vocab_size)
        if token not in tokenizer.special_token_ids
    }
    return {token: text for token, text in texts.items() if text and "\ufffd" not in text}


def allowed(processor: Grammar, params: SamplingParams, output: list[int], prompt: int = 3) -> set[int]:
    logits_RV = torch.zeros(1, VOCAB)
    rows = make_rows([params], histories=[[7] * prompt + output], num_prompt=[prompt], eos_token_ids=(EOS,))
    processor.apply(logits_RV, rows)
    return set((logits_RV[0] > -math.inf).nonzero()[:, 0].tolist())


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_of_a_finite_language_exactly_its_beginnings(data):
    letters = st.sampled_from(["a", "b", "the", " ", '"', "\\", "1", "{", "\n"])
    texts = data.draw(
        st.lists(st.lists(letters, max_size=5).map("".join), min_size=1, max_size=4, unique=True)
    )
    params, processor, so_far, output = wanting("choice", texts), make(), "", []
    while True:
        found = allowed(processor, params, output)
        expected = {t for t, piece in pieces().items() if any(x.startswith(so_far + piece) for x in texts)}
        left = [text.removeprefix(so_far) for text in texts if text.startswith(so_far)]
        go_on_alike = "" not in left and len({text[0] for text in left}) == 1
        if go_on_alike:  # it may then insist on the usual tokens
            assert found <= expected
            assert found, "nothing is left, although a text goes on"
        else:
            assert found == expected | ({EOS} if so_far in texts else set())
        if found <= {EOS}:
            break
        output.append(data.draw(st.sampled_from(sorted(found - {EOS}))))
        so_far += pieces()[output[-1]]
    assert allowed(processor, params, [*output, EOS]) == {EOS}, "a step that overlapped, after the end"


FORMS = [
    ("regex", "[0-9]{3}-[a-z]{2,5}", ["123-ab", "000-zzzzz"], ["12-ab", "123-a", "123-abcdef", "x"]),
    ("choice", ["é\n", 'a"b', "", "日本\\"], ["é\n", 'a"b', "", "日本\\"], ["a", "é"]),
    ("lark", 'start: "a" b+\nb: /[xy]/ ","', ["ax,", "ax,y,"], ["a", "ax"]),
    ("ebnf", 'root ::= "a" item+\nitem ::= [xy] ","', ["ax,", "ax,y,"], ["a", "ax"]),
    ("json_object", True, ["{}", '{"a": [1, null]}'], ["[]", "1", '{"a"}', "{"]),
    ("json_schema", True, ["1", "[]", '"a"'], ["{", "nul"]),
    ("json_schema", {"type": "integer", "minimum": 10, "maximum": 20}, ["10", "17"], ["9", "21", "1.5"]),
    (
        "json_schema",
        {"type": "object"},
        ['{\n  "a": 1,\n  "b": {\n    "c": 2\n  }\n}'],
        ['{    "a": 1}', "{}\n"],
    ),
    (
        "json_schema",
        {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
        ["[]", "[[],[[]]]"],
        ["[1]", "[["],
    ),
    (
        "structural_tag",
        {
            "structures": [{"begin": "<f=a>", "schema": {"type": "integer"}, "end": "</f>"}],
            "triggers": ["<f="],
        },
        ["hello", "so <f=a>12</f> and <f=a>3</f>"],
        ["<f=b>", "<f=a>x</f>", "<f=a>1"],
    ),
]


def accepts(processor: Grammar, params: SamplingParams, text: str) -> bool:
    output: list[int] = []
    for token in encode(text):
        if token not in allowed(processor, params, output):
            return False
        output.append(token)
    return EOS in allowed(processor, params, output)


@pytest.mark.parametrize(("form", "value", "inside", "outside"), FORMS)
def test_each_form(form, value, inside, outside):
    processor, params = make(), wanting(form, value)
    processor.check(params, VOCAB)
    assert processor.wants(params)
    for text in inside:
        assert accepts(processor, params, text), text
    for text in outside:
        assert not accepts(processor, params, text), text


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_rows_in_any_order_batch_and_history_as_if_alone(seed):
    """Sequences pause, go back (a preemption that dropped a token), fork and go on, in changing batches."""
    rng = random.Random(seed)
    grammars = [
        wanting("regex", "(ab|ba|the )*"),
        wanting("json_object", True),
        wanting("choice", ["abab", "abba"]),
    ]
    processor, fresh = make(), make()
    outputs = [(rng.choice(grammars), list[int]()) for _ in range(12)]
    for _ in range(8):
        batch = rng.sample(range(12), rng.randint(1, 12))
        rows = make_rows(
            [outputs[i][0] for i in batch],
            histories=[[5] * (1 + i % 3) + outputs[i][1] for i in batch],
            num_prompt=[1 + i % 3 for i in batch],
            eos_token_ids=(EOS,),
        )
        logits_RV = torch.zeros(len(batch), VOCAB)
        processor.apply(logits_RV, rows)
        found = [set((row_V > -math.inf).nonzero()[:, 0].tolist()) for row_V in logits_RV]
        for i, tokens in zip(batch, found, strict=True):
            assert tokens == allowed(fresh, *outputs[i], prompt=1)
        for i, tokens in zip(batch, found, strict=True):
            params, output = outputs[i]
            output.append(rng.choice(sorted(tokens)))
            if rng.random() < 0.2:
                del output[rng.randrange(len(output)) :]
            if rng.random() < 0.1:
                outputs[rng.choice([j for j in range(12) if j not in batch] or [i])] = (params, list(output))


def test_where_the_text_is_complete_min_tokens_cannot_bar_the_end():
    processor, params = make(), wanting("choice", ["ab"], min_tokens=9)
    logits_RV = torch.zeros(1, VOCAB)
    logits_RV[0, EOS] = -math.inf  # what min_tokens does
    processor.apply(
        logits_RV, make_rows([params], histories=[[7, *encode("ab")]], num_prompt=[1], eos_token_ids=(EOS,))
    )
    assert (logits_RV[0] > -math.inf).nonzero()[:, 0].tolist() == [EOS]
    optional = wanting("regex", "a+", min_tokens=9)
    logits_RV = torch.zeros(1, VOCAB)
    logits_RV[0, EOS] = -math.inf
    processor.apply(
        logits_RV, make_rows([optional], histories=[[7, *encode("a")]], num_prompt=[1], eos_token_ids=(EOS,))
    )
    assert logits_RV[0, EOS] == -math.inf, "the text can go on, so it does"
    assert logits_RV[0].max() == 0


def test_all_of_the_models_ends_are_ends():
    processor = make(eos=(EOS, 2))
    params = wanting("regex", "a+")
    assert {EOS, 2} <= allowed(processor, params, encode("a"))
    assert allowed(processor, params, [*encode("a"), 2]) == {EOS, 2}


def test_an_output_outside_its_grammar_leaves_no_token():
    assert allowed(make(), wanting("regex", "[0-9]+"), encode("x")) == set()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (wanting("regex", "("), r"grammar\.regex: .*unclosed group"),
        (wanting("regex", "a(?=b)"), r"grammar\.regex: .*look-around"),
        (wanting("regex", 3), r"grammar\.regex=3: must be a text"),
        (wanting("regex", "\ud800"), r"grammar\.regex: has half of a surrogate pair"),
        (wanting("json_schema", {"not": {}}), r'grammar\.json_schema: Unimplemented keys: \["not"\]'),
        (wanting("json_schema", {"type": "strin"}), r"grammar\.json_schema: Invalid type: strin"),
        (wanting("json_schema", False), r"grammar\.json_schema=False: must be a JSON schema"),
        (wanting("json_schema", {"$ref": "#"}), r"grammar\.json_schema: no text fulfils it"),
        (wanting("json_schema", {"$ref": "http://example.org/a"}), r"grammar\.json_schema: Resource"),
        (wanting("json_object", 1), r"grammar\.json_object=1: must be true"),
        (wanting("choice", []), r"grammar\.choice=\[\]: must be a list of at least one text"),
        (wanting("lark", "start: x"), r"grammar\.lark: .*unknown name"),
        (wanting("lark", "start: start"), r"grammar\.lark: no text fulfils it"),
        (wanting("ebnf", "x ::= y"), r"grammar\.ebnf: "),
        (wanting("structural_tag", {}), r"grammar\.structural_tag=\{\}: must be"),
        (
            wanting("structural_tag", {"structures": [{"begin": "<a>", "end": ""}], "triggers": ["<b"]}),
            r"structures\[0\]\.begin='<a>': must begin with one of triggers=\['<b'\]",
        ),
        (SamplingParams(extra={"grammar": 3}), r"grammar=3: must be an object with one of json_object"),
        (SamplingParams(extra={"grammar": {"a": 1}}), r"grammar=\{'a': 1\}: must be"),
        (SamplingParams(extra={"grammar": {}}), r"grammar=\{\}: must be"),
        (wanting("regex", "a", allowed_token_ids=(1,)), "grammar: cannot be kept to with allowed_token_ids"),
        (wanting("regex", "a", bad_token_ids=(1,)), "bad_token_ids, which may leave no token"),
        (wanting("regex", "a", min_tokens=2, stop_token_ids=(5,)), "min_tokens=2 and stop_token_ids"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(params, reason):
    with pytest.raises(UserError, match=reason):
        make().check(params, VOCAB)


def test_no_grammar_without_text_or_an_end():
    params = wanting("regex", "a")
    with pytest.raises(UserError, match="no tokenizer"):
        make(with_text=False).check(params, VOCAB)
    with pytest.raises(UserError, match="no end of sequence token"):
        make(eos=()).check(params, VOCAB)


def test_a_schema_nested_too_deeply():
    schema: dict = {}
    for _ in range(3000):
        schema = {"items": schema}
    with pytest.raises(UserError, match=r"grammar\.json_schema: "):
        make().check(wanting("json_schema", schema), VOCAB)


def test_registering_imports_neither_torch_nor_llguidance():
    code = (
        "import sys, quire_plugins.logits_processors.grammar;"
        "print([n for n in ('torch', 'llguidance', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def generate(requests: list[Request], *overrides: str) -> tuple[dict[str, tuple[Sample, ...]], int]:
    """Samples by request, and how often a sequence was preempted."""
    config = compose(["dtype=float32", "device=cpu", "engine.threads=1", *overrides])
    engine = Run(config=config, registry=load_registry(), directory=Path()).engine()
    completions, found, preempted = Completions(), {}, 0
    try:
        for outputs in serve(engine, completions.watch(requests)):
            for whole in completions.take(outputs):
                found[whole.request.id] = whole.samples
            preempted += sum(record.num_preempted for record in engine.take_records())
    finally:
        engine.close()
    return found, preempted


def test_through_the_engine_it_is_valid_and_the_same_under_preemption():
    kinds = [wanting("json_schema", PERSON, temperature=1.0, max_tokens=150, n=2, seed=s) for s in range(4)]
    kinds += [
        wanting("regex", "([a-z]{3} ){9,12}", temperature=1.0, max_tokens=150, seed=4, n=3),
        SamplingParams(temperature=1.0, max_tokens=40, seed=5),
        wanting("choice", ["yes", "no"], temperature=0.0, max_tokens=9, min_tokens=6),
        wanting("choice", ["yes", "no"], temperature=0.0, max_tokens=9, ignore_eos=True),
        wanting("json_schema", PERSON, temperature=1.0, max_tokens=3, seed=9),
    ]
    requests = [
        Request(id=str(i), prompt_token_ids=tuple(encode("Tell me of " + "a cat " * i)), sampling=params)
        for i, params in enumerate(kinds)
    ]
    roomy, none = generate(requests)
    tight, some = generate(requests, "engine.max_model_tokens=256", "engine.kv_bytes=1200KiB")
    assert none == 0
    assert some > 0
    ended = 0
    for id, samples in roomy.items():
        for sample, again in zip(samples, tight[id], strict=True):
            assert sample.error is None
            assert (again.token_ids, again.text, again.finish_reason) == (
                sample.token_ids,
                sample.text,
                sample.finish_reason,
            )
            given = kinds[int(id)].extra.get("grammar", {})
            if "json_schema" in given and sample.finish_reason is FinishReason.STOP:
                ended += 1
                jsonschema.validate(json.loads(sample.text), PERSON)
    assert ended >= 4
    (short,), (going_on,) = roomy["6"], roomy["7"]
    assert short.text in ("yes", "no")
    assert (len(short.token_ids), short.finish_reason) == (6, FinishReason.STOP)
    assert going_on.text in ("yes", "no")
    assert (len(going_on.token_ids), going_on.finish_reason) == (9, FinishReason.LENGTH)
    assert roomy["8"][0].finish_reason is FinishReason.LENGTH
