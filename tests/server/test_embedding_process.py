"""Vectors and scores from a process of their own are those that the embedder makes in this one."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from engines import demo_config
from text_checkpoints import ENCODERS, RERANKERS, make_checkpoint, random_texts

from quire.engine.request import Request
from quire.errors import RequestRefused
from quire.registry import load_registry
from quire.run import Run
from quire.server.client import ModelKind
from quire.server.process import ProcessEngineClient


def config_of(path):
    return demo_config(f"model={path}", "ops=torch")


def ask(config, directory, question):
    async def run():
        client = ProcessEngineClient(config=config, directory=directory)
        await client.start()
        try:
            return client.card, await question(client)
        finally:
            await client.close()

    return asyncio.run(run())


def test_vectors(tmp_path):
    make_checkpoint(ENCODERS["bert"], tmp_path)
    calls = [random_texts(lengths, seed=i) for i, lengths in enumerate([(3, 40, 7), (1,), (12, 5), ()])]
    too_long = random_texts((9999,))

    async def question(client):
        *vectors, refusal = await asyncio.gather(
            *map(client.embed, calls), client.embed(too_long), return_exceptions=True
        )
        with pytest.raises(RequestRefused, match="makes no text"):
            await anext(client.generate(Request(id="r", prompt_token_ids=(1,))))
        with pytest.raises(RequestRefused):
            await client.score([[1, 2]])
        return vectors, refusal, await client.stats()

    card, (vectors, refusal, stats) = ask(config_of(tmp_path), tmp_path, question)
    assert card.kind is ModelKind.EMBED
    assert isinstance(refusal, RequestRefused)
    assert "9999" in str(refusal)
    embedder = Run(config=config_of(tmp_path), registry=load_registry(), directory=Path()).embedder()
    for call, got in zip(calls, vectors, strict=True):
        assert len(got) == len(call)
        if call:
            np.testing.assert_allclose(np.stack(got), embedder.embed(call), atol=1e-5)
            assert got[0].dtype == np.float32
    assert stats.computed_tokens >= sum(len(text) for call in calls for text in call)
    assert stats.waiting == 0


def test_scores_with_and_without_token_types(tmp_path):
    make_checkpoint(RERANKERS["bert"], tmp_path)
    pairs = random_texts((6, 30, 11))
    types = [[0] * (len(pair) // 2) + [1] * (len(pair) - len(pair) // 2) for pair in pairs]

    async def question(client):
        return await asyncio.gather(
            client.score(pairs, types), client.score(pairs[:1], types[:1]), client.score(pairs)
        )

    card, (typed, one, plain) = ask(config_of(tmp_path), tmp_path, question)
    assert card.kind is ModelKind.RERANK
    embedder = Run(config=config_of(tmp_path), registry=load_registry(), directory=Path()).embedder()
    np.testing.assert_allclose(typed, embedder.score(pairs, types), atol=1e-5)
    np.testing.assert_allclose(one, typed[:1], atol=1e-5)
    np.testing.assert_allclose(plain, embedder.score(pairs), atol=1e-5)
    assert abs(plain[1] - typed[1]) > 1e-4, "types count in this model"
