"""Prefixes that end inside a block, copied by the runner: the same tokens as without any, on a real model."""

import pytest

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.registry import load_registry
from quire.run import Run

REGISTRY = load_registry()
STEM = [(7 * i) % 50 + 3 for i in range(150)]
COMMON = (1, 15, 16, 17, 37, 63, 64, 65, 100, 127)


def outputs(tmp_path, *overrides: str):
    """Prompts that begin like the first, one after another; and how many tokens of each were found."""
    options = [
        "dtype=float32", "device=cpu", "engine.threads=1", "engine.kv_bytes=16MiB", "engine.block_size=16",
        *overrides,
    ]  # fmt: skip
    run = Run(config=compose(options, REGISTRY), registry=REGISTRY, directory=tmp_path)
    engine = run.engine(with_text=False)
    tokens, found, records = {}, {}, []
    for number, common in enumerate((150, *COMMON)):
        prompt = (*STEM[:common], *((11 * i + number) % 50 + 60 for i in range(9)))
        sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        engine.add(Request(id=str(common), prompt_token_ids=prompt, sampling=sampling))
        while engine.has_work:
            for output in engine.step():
                assert output.error is None
                tokens.setdefault(common, []).extend(output.token_ids)
                if output.record is not None:
                    found[common] = output.record.num_cached_tokens
            engine.allocator.check_integrity()
        records += engine.take_records()
    engine.close()
    return tokens, found, records


@pytest.mark.parametrize("attention", [("attention=paged",), ("attention=sdpa", "ops=torch")])
def test_hits_of_odd_lengths_bring_the_same_tokens(attention, tmp_path):
    alone, none, _ = outputs(tmp_path, "allocator.prefix_cache=false", *attention)
    radix, found, records = outputs(tmp_path, "allocator=radix", *attention)
    assert set(none.values()) == {0}
    assert radix == alone
    assert {common: found[common] for common in COMMON} == {common: common for common in COMMON}
    assert sum(record.bytes_copied for record in records) > 0
    assert sum(record.copy_seconds for record in records) > 0
