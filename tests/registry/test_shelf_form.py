"""Every policy of the shelf has the form that a reader may count on, whoever adds the next one."""

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.registry import load_registry
from quire.run import Run

REGISTRY = load_registry()
LINES = {"scheduler": 160, "eviction": 160, "victim": 160, "predictor": 160, "allocator": 300}
"""The longest file of each kind; an allocator is several nouns, of which this is the one with its name."""
POLICIES = [
    (kind, name)
    for kind in LINES
    for name in REGISTRY.names(kind)
    if REGISTRY.info(kind, name).distribution == "quire"
]
SUITES = {"scheduler": "SchedulerSuite", "eviction": "EvictionSuite", "allocator": "AllocatorSuite"}
TESTS = Path(__file__).parents[1]
EVERY = pytest.mark.parametrize(("kind", "name"), POLICIES, ids=map("=".join, POLICIES))


@EVERY
def test_a_policy_is_one_short_file(kind, name):
    source = inspect.getsource(inspect.getmodule(REGISTRY.get(kind, name)))
    assert source.count("\n") <= LINES[kind]


PLAIN = {("victim", name) for name in REGISTRY.names("victim")} | {("predictor", "oracle")}
"""What is nobody's idea."""


@EVERY
def test_a_policy_cites_its_paper(kind, name):
    module = inspect.getmodule(REGISTRY.get(kind, name))
    cites = re.search(r"\b(19|20)\d\d\b", module.__doc__)
    assert cites or (kind, name) in PLAIN, f"{module.__name__} names no paper: authors, title or venue, year"


@EVERY
def test_every_option_is_explained(kind, name):
    config = REGISTRY.get(kind, name).Config
    assert is_dataclass(config)
    assert not config.__dataclass_params__.frozen
    (tree,) = ast.parse(inspect.getsource(config)).body
    explained = {
        field.target.id
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert explained == {field.name for field in fields(config)}


@pytest.mark.parametrize(("kind", "name"), [each for each in POLICIES if each[0] in SUITES])
def test_its_contract_suite_is_run(kind, name):
    config = REGISTRY.get(kind, name).Config.__name__
    tests = (path.read_text() for path in TESTS.glob("*/test_*.py"))
    assert any(f"{SUITES[kind]})" in text and f"{config}(" in text for text in tests)


@pytest.mark.parametrize("name", REGISTRY.names("allocator"))
def test_every_allocator_by_its_name(name, tmp_path):
    """The other kinds have such a test each beside their own."""
    options = [f"allocator={name}", "device=cpu", "engine.block_size=16", "engine.kv_bytes=400KiB"]
    run = Run(config=compose(options, REGISTRY), registry=REGISTRY, directory=tmp_path)
    engine = run.engine(with_text=False)
    assert type(engine.allocator) is REGISTRY.get("allocator", name)
    for index in range(3):
        prompt = tuple(range(3, 40 + index))
        engine.add(Request(id=str(index), prompt_token_ids=prompt, sampling=SamplingParams(max_tokens=4)))
    while engine.has_work:
        for output in engine.step():
            assert output.error is None
        engine.allocator.check_integrity()
    engine.close()
