"""What a caller asks for: a prompt and how to continue it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quire.errors import UserError

DEFAULT_TENANT = "default"
"""Whose a request is that names nobody."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How the tokens of one request are chosen and when it ends.

    temperature         0 is greedy; otherwise logits are divided by it
    top_k               keep the k most probable tokens; None keeps all
    top_p               keep the smallest set whose probability reaches top_p, in (0, 1]
    min_p               drop tokens below min_p times the largest probability, in [0, 1]
    repetition_penalty  over prompt and output (Keskar et al., CTRL, 2019, section 4.1); 1 is none
    presence_penalty, frequency_penalty    subtracted from logits of tokens in the output; 0 is none
    logit_bias          token id -> number added to its logit
    allowed_token_ids   if given, nothing else can be sampled
    bad_token_ids       never sampled
    seed                what the request's random draws derive from; None takes one from the run's seed
    n                   samples of the same prompt
    max_tokens          output tokens at most; None is as many as the model's length and the KV cache allow
    min_tokens          no end of sequence or stop token before this many output tokens
    stop                strings that end the output; they are cut from the text
    stop_token_ids      token ids that end the output, besides the model's own end of sequence
    ignore_eos          go on after the model's end of sequence
    logprobs            report the sampled token's log probability and that many of the most probable
    prompt_logprobs     the same for the tokens of the prompt
    extra               parameters of further logits processors, by processor name
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    allowed_token_ids: tuple[int, ...] | None = None
    bad_token_ids: tuple[int, ...] = ()
    seed: int | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        def check(name: str, holds: bool, allowed: str) -> None:
            if not holds:
                raise UserError(f"{name}={getattr(self, name)!r}: must be {allowed}")

        check("temperature", 0 <= self.temperature < float("inf"), "a finite number >= 0")
        check("top_k", self.top_k is None or self.top_k >= 1, "at least 1, or None for all tokens")
        check("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        check("min_p", 0 <= self.min_p <= 1, "in [0, 1]")
        check("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "a finite number > 0")
        check("presence_penalty", -2 <= self.presence_penalty <= 2, "in [-2, 2]")
        check("frequency_penalty", -2 <= self.frequency_penalty <= 2, "in [-2, 2]")
        check("n", self.n >= 1, "at least 1")
        check("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "at least 1, or None")
        check("min_tokens", self.min_tokens >= 0, "at least 0")
        if self.max_tokens is not None:
            check("min_tokens", self.min_tokens <= self.max_tokens, f"at most max_tokens={self.max_tokens}")
        listed = not isinstance(self.stop, str)
        check("stop", listed and all(self.stop), "strings that are not empty, in a list")
        check("allowed_token_ids", self.allowed_token_ids != (), "None or at least one token id")
        check("logprobs", self.logprobs is None or self.logprobs >= 0, "at least 0, or None")
        check(
            "prompt_logprobs",
            self.prompt_logprobs is None or self.prompt_logprobs >= 0,
            "at least 0, or None",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A prompt with its sampling parameters and the attributes that policies may look at.

    `arrival_time` is in seconds on the engine's clock; None means now. `deadline` is absolute on the same
    clock. `forced_output_tokens` makes every sample exactly that long, for paired benchmarks; policies
    cannot see it (they see `sampling.max_tokens`, the length that the caller declared).
    """

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    arrival_time: float | None = None
    tenant: str = DEFAULT_TENANT
    priority: int = 0
    deadline: float | None = None
    session: str | None = None
    forced_output_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.prompt_token_ids:
            raise UserError(f"request {self.id!r}: prompt_token_ids is empty; at least one token is needed")
        if self.forced_output_tokens is not None and self.forced_output_tokens < 1:
            raise UserError(
                f"request {self.id!r}: forced_output_tokens={self.forced_output_tokens}: must be at least 1"
            )
