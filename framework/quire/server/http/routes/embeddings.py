"""/v1/embeddings: texts as vectors."""

from __future__ import annotations

import base64
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from quire.server.http.access_log import note
from quire.server.http.answer import json_answer
from quire.server.http.context import LoadedContext
from quire.server.http.documented import answers
from quire.server.http.embedding_input import read_texts
from quire.server.http.errors import ApiError
from quire.server.http.model import ApiModel
from quire.server.http.prompts import PromptField
from quire.server.http.streaming import unless_gone

router = APIRouter()


class EmbeddingFields(ApiModel):
    """The body of a request."""

    model: str | None = None
    input: PromptField
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    """Keep so many leading numbers of each vector, brought to length 1 again; for models trained for that."""
    user: str | None = None


@router.post("/v1/embeddings", responses=answers({"object": str, "data": list, "model": str, "usage": dict}))
async def embeddings(fields: EmbeddingFields, http: HttpRequest, context: LoadedContext) -> Response:
    """A vector for each text."""
    import numpy as np

    model = context.model(fields.model)
    texts = await read_texts(context, fields.input, param="input")
    vectors = await unless_gone(http, context.client.embed(texts))
    data: list[dict[str, Any]] = []
    for index, vector in enumerate(vectors):
        if fields.dimensions is not None:
            if fields.dimensions > len(vector):
                raise ApiError(
                    400,
                    f"dimensions={fields.dimensions}: this model's vectors have {len(vector)}",
                    param="dimensions",
                )
            vector = vector[: fields.dimensions]
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        values = np.ascontiguousarray(vector, dtype="<f4")
        embedding = (
            base64.b64encode(values.tobytes()).decode()
            if fields.encoding_format == "base64"
            else values.tolist()
        )
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = sum(map(len, texts))
    note(http.scope, model=model, prompt_tokens=tokens)
    return json_answer(
        {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
