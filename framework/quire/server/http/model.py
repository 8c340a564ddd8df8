"""The base of all requests' models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """Fields that are not known are accepted, as clients of OpenAI's and of vLLM's send many."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)
