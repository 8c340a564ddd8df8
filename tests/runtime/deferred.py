"""Engines that compute on a CPU as they would on a GPU: steps launched ahead of their tokens, decoding steps
from graphs. Only the graphs are not real: replaying one computes again what was captured, on the same memory.
"""

import functools
from unittest import mock

from quire.config.compose import compose
from quire.jobs.feed import serve
from quire.registry import Registry, load_registry
from quire.run import Run
from quire_plugins.executors.local import LocalExecutor


class Capture:
    """Counts, so that a test can tell that graphs were used."""

    def __init__(self):
        self.captured = self.replayed = 0

    def __call__(self, compute):
        self.captured += 1
        output = compute()

        def replay():
            self.replayed += 1
            output.copy_(compute())

        return replay, output


class AheadExecutor(LocalExecutor):
    """Launches as on a GPU, and has graphs if it gets a capture."""

    def __init__(self, *, capture, **parts):
        super().__init__(**parts)
        self._defers = True
        self._given = capture

    def _capture(self):
        return self._given


@functools.cache
def registry():
    return load_registry()


def make_engine(checkpoint, *overrides, replaced=None):
    """`replaced` makes the parts of a kind in place of what the registry would make."""
    fixed = [f"model={checkpoint}", "dtype=float32", "device=cpu", "engine.threads=1", "seed=1"]
    create = Registry.create

    def changed(self, kind, config, **parts):
        make = (replaced or {}).get(kind)
        return create(self, kind, config, **parts) if make is None else make(config=config, **parts)

    run = Run(config=compose([*fixed, *overrides], registry()), registry=registry(), directory=checkpoint)
    with mock.patch.object(Registry, "create", changed):
        return run.engine(with_text=False)


def results(engine, requests):
    """By sample: its tokens, the log probabilities that it asked for, how it ended."""
    found = {}
    try:
        for outputs in serve(engine, requests):
            engine.allocator.check_integrity()
            for output in outputs:
                entry = found.setdefault((output.request_id, output.index), {"tokens": [], "logprobs": []})
                entry["tokens"] += output.token_ids
                entry["logprobs"] += [*output.prompt_logprobs, *output.logprobs]
                entry["end"] = (output.finish_reason, output.error)
    finally:
        engine.close()
    return found


def check_same(found, expected):
    """Token by token; log probabilities up to the rounding of another order."""
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        assert found[name]["tokens"] == entry["tokens"], name
        assert found[name]["end"] == entry["end"]
        assert len(found[name]["logprobs"]) == len(entry["logprobs"])
        for one, other in zip(found[name]["logprobs"], entry["logprobs"], strict=True):
            assert (one.token_id, one.rank) == (other.token_id, other.rank)
            assert abs(one.logprob - other.logprob) < 1e-4
