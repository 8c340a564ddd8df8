"""Sampling parameters as the APIs have them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictInt

from quire.engine.request import DEFAULT_TENANT, SamplingParams
from quire.server.client import ModelCard
from quire.server.http.errors import ApiError
from quire.server.http.grammar import GuidedFields
from quire.server.http.model import ApiModel

_TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class StreamOptions(ApiModel):
    """What a stream tells besides the output."""

    include_usage: bool | None = None
    """A last chunk with the usage and no choices."""
    continuous_usage_stats: bool | None = None
    """The usage so far in every chunk."""


class SamplingFields(GuidedFields):
    """The parameters that completions and chats share: OpenAI's, and those that vLLM added."""

    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, lt=1e6)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    """0 and -1: all tokens."""
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, lt=1e6)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    allowed_token_ids: list[_TokenId] | None = Field(default=None, min_length=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    n: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    min_tokens: int | None = Field(default=None, ge=0, lt=2**31)
    stop: str | list[str] | None = None
    stop_token_ids: list[_TokenId] | None = None
    ignore_eos: bool | None = None
    vllm_xargs: dict[str, Any] | None = None
    """Parameters of further logits processors by their names, as vLLM calls this."""
    user: str | None = None
    """The tenant, for schedulers that tell tenants apart."""
    priority: int | None = Field(default=None, ge=-(2**31), lt=2**31)
    """The smaller the more urgent, for schedulers that mind it."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def tenant(self) -> str:
        return self.user or DEFAULT_TENANT

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each chunk has the usage so far."""
        return self.stream_options is not None and bool(self.stream_options.continuous_usage_stats)

    def sampling(
        self,
        card: ModelCard,
        *,
        max_tokens: int | None,
        n: int,
        logprobs: int | None,
        extra: dict[str, Any],
    ) -> SamplingParams:
        """The engine's parameters; what each API names in its own way is given apart. UserError, ApiError."""
        self._check_something_is_left(card)
        given: dict[str, Any] = {
            name: value
            for name in (
                "temperature",
                "top_p",
                "min_p",
                "repetition_penalty",
                "presence_penalty",
                "frequency_penalty",
                "seed",
                "min_tokens",
                "ignore_eos",
            )
            if (value := getattr(self, name)) is not None
        }
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return SamplingParams(
            **given,
            top_k=self.top_k if self.top_k is not None and self.top_k > 0 else None,
            logit_bias=_bias(self.logit_bias or {}),
            allowed_token_ids=None if self.allowed_token_ids is None else tuple(self.allowed_token_ids),
            stop=tuple(stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            max_tokens=max_tokens,
            n=n,
            logprobs=logprobs,
            extra=extra,
        )

    def _check_something_is_left(self, card: ModelCard) -> None:
        """Raise ApiError if the first token could only be one that ends the output, which min_tokens bars."""
        if not self.min_tokens:
            return
        barred = {*card.eos_token_ids, *(self.stop_token_ids or ())}
        allowed = self.allowed_token_ids
        if barred.issuperset(range(card.vocab_size) if allowed is None else allowed):
            raise ApiError(
                400,
                f"min_tokens={self.min_tokens}: leaves no token to sample, as all that are allowed end the "
                "output",
                param="min_tokens",
            )


def _bias(given: dict[str, float]) -> dict[int, float]:
    """Token id -> number; JSON's keys are strings."""
    try:
        return {int(token): number for token, number in given.items()}
    except ValueError:
        raise ApiError(
            400, "logit_bias: keys must be token ids, as strings of digits", param="logit_bias"
        ) from None
