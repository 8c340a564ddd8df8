"""Random tokens with lengths and arrivals from a distribution: what a benchmark of speed needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire_plugins.workloads.draws import lognormal_lengths, poisson_arrivals, stream, token_ids


@dataclass
class SyntheticConfig:
    """Options of `workload=synthetic`."""

    requests: int = 64
    """How many requests."""
    rate: float | None = None
    """Requests a second (Poisson); null: all at once."""
    prompt_mean: float = 220.0
    """Mean prompt length in tokens, before the cap."""
    prompt_sigma: float = 0.5
    """Standard deviation of its logarithm; 0: all alike."""
    prompt_cap: int | None = None
    """Longest prompt; null: what the longest output leaves, or half of the longest sequence."""
    output_mean: float = 180.0
    """Mean output length in tokens, before the cap; every output is made exactly as long as drawn."""
    output_sigma: float = 0.5
    """Standard deviation of its logarithm; 0: all alike."""
    output_cap: int | None = None
    """Longest output, which is also what requests declare; null: what the longest prompt leaves."""
    shared_prefix: int = 0
    """Tokens at the start of every prompt that are the same in all."""

    def __post_init__(self) -> None:
        for name in ("requests", "prompt_cap", "output_cap"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"workload.{name}={value}: must be at least 1")
        for name in ("prompt_mean", "output_mean"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise UserError(f"workload.{name}={getattr(self, name)}: must be a number of tokens >= 1")
        for name in ("prompt_sigma", "output_sigma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"workload.{name}={getattr(self, name)}: must be a finite number >= 0")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise UserError(
                f"workload.rate={self.rate}: must be more than 0 a second, or null for all at once"
            )
        if self.shared_prefix < 0:
            raise UserError(f"workload.shared_prefix={self.shared_prefix}: must be at least 0")


class SyntheticWorkload(Workload):
    """Greedy requests of random token ids whose output length is forced, hidden from every policy."""

    Config = SyntheticConfig

    def __init__(self, *, config: SyntheticConfig) -> None:
        self._config = config

    def __len__(self) -> int:
        return self._config.requests

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        return self._draw(context, *self._caps(context))

    def _draw(self, context: WorkloadContext, prompt_cap: int, output_cap: int) -> Iterator[Request]:
        config = self._config
        arrivals = (
            repeat(0.0)
            if config.rate is None
            else poisson_arrivals(stream(context.seed, "synthetic arrivals"), config.rate)
        )
        prompts = lognormal_lengths(
            stream(context.seed, "synthetic prompts"),
            mean=config.prompt_mean,
            sigma=config.prompt_sigma,
            cap=prompt_cap,
        )
        outputs = lognormal_lengths(
            stream(context.seed, "synthetic outputs"),
            mean=config.output_mean,
            sigma=config.output_sigma,
            cap=output_cap,
        )
        shared = token_ids(stream(context.seed, "synthetic prefix"), config.shared_prefix, context.vocab_size)
        tokens = stream(context.seed, "synthetic tokens")
        sampling = SamplingParams(temperature=0.0, max_tokens=output_cap, ignore_eos=True)
        drawn = zip(arrivals, prompts, outputs, strict=False)
        for index, (arrival, prompt, output) in enumerate(islice(drawn, config.requests)):
            own = max(1, prompt - len(shared))
            yield Request(
                id=f"synthetic-{index}",
                prompt_token_ids=shared + token_ids(tokens, own, context.vocab_size),
                sampling=sampling,
                arrival_time=arrival,
                forced_output_tokens=output,
            )

    def _caps(self, context: WorkloadContext) -> tuple[int, int]:
        """The longest prompt and output, which together fit into what the engine admits."""
        config, longest = self._config, context.max_model_tokens
        prompt_cap, output_cap = config.prompt_cap, config.output_cap
        if prompt_cap is None:
            prompt_cap = longest // 2 if output_cap is None else longest - output_cap
        if output_cap is None:
            output_cap = longest - prompt_cap
        if min(prompt_cap, output_cap) < 1 or prompt_cap + output_cap > longest:
            raise UserError(
                f"workload.prompt_cap={config.prompt_cap} and workload.output_cap={config.output_cap}: must "
                f"be at least 1 and together at most {longest}, the longest sequence that is admitted"
            )
        if config.shared_prefix >= prompt_cap:
            raise UserError(
                f"workload.shared_prefix={config.shared_prefix}: must be less than the longest prompt, "
                f"{prompt_cap} tokens"
            )
        return prompt_cap, output_cap
