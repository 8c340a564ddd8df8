"""/v1/rerank, /rerank and /score: how well texts go together.

A reranking model reads both texts of a pair at once; an embedding model's score is the cosine of two vectors.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from quire.server.client import ModelKind
from quire.server.http.access_log import note
from quire.server.http.answer import json_answer
from quire.server.http.context import LoadedContext, ServerContext
from quire.server.http.counts import check_count
from quire.server.http.documented import answers
from quire.server.http.embedding_input import read_pairs, read_texts
from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel
from quire.server.http.streaming import unless_gone

router = APIRouter()


class RerankFields(ApiModel):
    """The body of a request to /rerank."""

    model: str | None = None
    query: str
    documents: list[str | dict[str, Any]] = Field(min_length=1)
    """Texts, or objects with a `text`."""
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None


class ScoreFields(ApiModel):
    """The body of a request to /score: one text against each of several, or as many pairs."""

    model: str | None = None
    text_1: str | list[str]
    text_2: str | list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scores:
    values: list[float]
    tokens: int


@router.post("/v1/rerank", responses=answers({"id": str, "model": str, "results": list, "usage": dict}))
@router.post("/rerank", responses=answers({"id": str, "model": str, "results": list, "usage": dict}))
async def rerank(fields: RerankFields, http: HttpRequest, context: LoadedContext) -> Response:
    """The documents, the most relevant to the query first."""
    model = context.model(fields.model)
    texts = [_document(document, index) for index, document in enumerate(fields.documents)]
    scores = await unless_gone(http, _scores(context, [fields.query] * len(texts), texts))
    order = sorted(range(len(texts)), key=lambda index: -scores.values[index])
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": scores.values[index]} for index in order[: fields.top_n]
    ]
    if fields.return_documents is not False:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    note(http.scope, model=model, prompt_tokens=scores.tokens)
    return json_answer(
        {
            "id": f"rerank-{uuid.uuid4().hex}",
            "model": model,
            "results": results,
            "usage": {"total_tokens": scores.tokens},
        }
    )


@router.post("/score", responses=answers({"object": str, "data": list, "model": str, "usage": dict}))
async def score(fields: ScoreFields, http: HttpRequest, context: LoadedContext) -> Response:
    """The score of each pair."""
    model = context.model(fields.model)
    left, right = _pairs(fields)
    scores = await unless_gone(http, _scores(context, left, right))
    note(http.scope, model=model, prompt_tokens=scores.tokens)
    return json_answer(
        {
            "object": "list",
            "data": [
                {"index": index, "object": "score", "score": value}
                for index, value in enumerate(scores.values)
            ],
            "model": model,
            "usage": {"prompt_tokens": scores.tokens, "total_tokens": scores.tokens},
        }
    )


def _document(document: str | dict[str, Any], index: int) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise ApiError(400, f"documents[{index}]: has no text", param="documents")
    return text


def _pairs(fields: ScoreFields) -> tuple[list[str], list[str]]:
    left = [fields.text_1] if isinstance(fields.text_1, str) else fields.text_1
    right = [fields.text_2] if isinstance(fields.text_2, str) else fields.text_2
    left = left * len(right) if len(left) == 1 else left
    if not right or len(left) != len(right):
        raise ApiError(
            400, f"text_1: {len(left)} texts and {len(right)} of text_2 make no pairs", param="text_1"
        )
    return left, right


async def _scores(context: ServerContext, left: Sequence[str], right: Sequence[str]) -> _Scores:
    check_count("documents", len(right), context.config.max_prompts, "max_prompts")
    match context.client.card.kind:
        case ModelKind.RERANK:
            pairs = await read_pairs(context, left, right, param="documents")
            values = await context.client.score(
                [pair.token_ids for pair in pairs], [pair.type_ids for pair in pairs]
            )
            return _Scores(values=values, tokens=sum(len(pair.token_ids) for pair in pairs))
        case ModelKind.EMBED:
            return await _cosines(context, left, right)
        case ModelKind.GENERATE:
            raise ApiError(
                400,
                f"model {context.names[0]!r} generates text; scores need a model that embeds or reranks",
                param="model",
                code="unsupported",
            )


async def _cosines(context: ServerContext, left: Sequence[str], right: Sequence[str]) -> _Scores:
    import numpy as np

    texts = list(dict.fromkeys([*left, *right]))  # a query is embedded once
    token_ids = await read_texts(context, texts, param="documents")
    vectors = await context.client.embed(token_ids)
    unit = {
        text: vector / max(float(np.linalg.norm(vector)), 1e-12)
        for text, vector in zip(texts, vectors, strict=True)
    }
    values = [float(unit[a] @ unit[b]) for a, b in zip(left, right, strict=True)]
    return _Scores(values=values, tokens=sum(map(len, token_ids)))
