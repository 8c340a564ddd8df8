"""Random tokens with lengths, arrivals and shared beginnings from distributions: what a benchmark needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Any

from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.interfaces.workload import Workload, WorkloadContext
from quire_plugins.workloads import arrivals
from quire_plugins.workloads.conversations import Conversation, conversations
from quire_plugins.workloads.draws import lognormal_lengths, poisson_arrivals, stream, token_ids
from quire_plugins.workloads.limits import Limits, TooLong
from quire_plugins.workloads.preambles import preambles
from quire_plugins.workloads.synthetic_config import Arrivals, Lengths, SyntheticConfig


@dataclass(kw_only=True, slots=True)
class _Talk:
    """A conversation under way: what comes next, and all that was said."""

    conversation: Conversation
    next_turn: int
    said: tuple[int, ...]


class SyntheticWorkload(Workload):
    """Greedy requests of random token ids whose output length is forced, hidden from every policy."""

    Config = SyntheticConfig

    def __init__(self, *, config: SyntheticConfig) -> None:
        self._config = config
        self._closed = config.arrivals is Arrivals.closed
        self.reacts = self._closed or config.turns > 1
        self._tenants = config.tenant_classes()
        self._talks: dict[str, _Talk] = {}
        self._abandoned = 0

    def __len__(self) -> int:
        return self._config.requests

    def requests(self, context: WorkloadContext) -> Iterator[Request]:
        config = self._config
        self._context = context
        caps = self._caps(context)
        self._limits = Limits(rule=config.too_long, longest=context.max_model_tokens)
        self._sampling = SamplingParams(temperature=0.0, max_tokens=caps[1], ignore_eos=True)
        if config.too_long is TooLong.refuse:
            for _ in self._conversations(context, caps):
                pass  # refuses before the first request instead of at the first that is too long
        self._upcoming = self._conversations(context, caps)
        begin = self._arrivals(context)
        if self._closed:
            first = islice(self._upcoming, config.concurrency)
            return (self._open(conversation, 0.0) for conversation in first)
        return (
            self._open(conversation, time) for conversation, time in zip(self._upcoming, begin, strict=False)
        )

    def on_end(
        self, request: Request, token_ids: Sequence[int], reason: FinishReason, now: float
    ) -> Iterable[Request]:
        talk = self._talks.pop(request.id, None)
        if talk is not None and reason in (FinishReason.STOP, FinishReason.LENGTH):
            said = talk.said + tuple(token_ids)
            turn = talk.conversation.turns[talk.next_turn]
            return (self._turn(replace(talk, said=said), now + turn.think),)
        if talk is not None:
            self._abandoned += len(talk.conversation.turns) - talk.next_turn
        conversation = next(self._upcoming, None) if self._closed else None
        return () if conversation is None else (self._open(conversation, now + conversation.turns[0].think),)

    def notes(self) -> Mapping[str, Any]:
        abandoned = {"turns_after_a_failure_left_out": self._abandoned} if self._abandoned else {}
        return {**self._limits.notes(), **abandoned}

    def _open(self, conversation: Conversation, arrival: float) -> Request:
        """The first request of a conversation."""
        said: tuple[int, ...] = ()
        for name, tokens in conversation.preamble:
            said += self._text(name, tokens)
        return self._turn(_Talk(conversation=conversation, next_turn=0, said=said), arrival)

    def _turn(self, talk: _Talk, arrival: float) -> Request:
        """The next request of a conversation; if another follows it, the conversation is remembered."""
        conversation = talk.conversation
        turn = conversation.turns[talk.next_turn]
        tenant = self._tenants[conversation.tenant]
        id = f"synthetic-{conversation.index}"
        many = self._config.turns > 1
        name = f"{id}.{turn.number}" if many else id
        prompt = talk.said + self._text(name, turn.prompt - len(talk.said))
        if talk.next_turn + 1 < len(conversation.turns):
            self._talks[name] = _Talk(conversation=conversation, next_turn=talk.next_turn + 1, said=prompt)
        longest = self._context.max_model_tokens - len(prompt)
        sampling = self._sampling
        if self._sampling.max_tokens is None or self._sampling.max_tokens > longest:
            sampling = replace(sampling, max_tokens=longest)
        return Request(
            id=name,
            prompt_token_ids=prompt,
            sampling=sampling,
            arrival_time=arrival,
            tenant=conversation.tenant,
            priority=tenant.priority,
            deadline=None if tenant.deadline is None else arrival + tenant.deadline,
            session=id if many else None,
            forced_output_tokens=turn.output,
        )

    def _text(self, name: str, tokens: int) -> tuple[int, ...]:
        """Random tokens that are always the same under that name."""
        rng = stream(self._context.seed, f"synthetic text {name}")
        return token_ids(rng, tokens, self._context.vocab_size)

    def _conversations(
        self, context: WorkloadContext, caps: tuple[int, int | None]
    ) -> Iterator[Conversation]:
        config = self._config
        return conversations(
            seed=context.seed,
            requests=config.requests,
            lengths=self._lengths(context, caps),
            mean_turns=config.turns,
            think_mean=config.think,
            tenants=[(name, tenant.weight) for name, tenant in self._tenants.items()],
            preambles=preambles(
                seed=context.seed,
                prefix_tokens=config.shared_prefix,
                prefixes=config.prefixes,
                documents=config.documents,
                document_tokens=config.document_tokens,
                documents_each=config.documents_each if config.documents else 0,
                popularity=config.popularity,
            ),
            limits=self._limits,
        )

    def _arrivals(self, context: WorkloadContext) -> Iterator[float]:
        config = self._config
        if config.rate is None:
            return repeat(0.0)
        rng = stream(context.seed, "synthetic arrivals")
        match config.arrivals:
            case Arrivals.gamma:
                return arrivals.gamma_arrivals(rng, config.rate, cv=config.cv)
            case Arrivals.weibull:
                return arrivals.weibull_arrivals(rng, config.rate, cv=config.cv)
            case Arrivals.on_off:
                return arrivals.on_off_arrivals(rng, config.rate, on=config.on, off=config.off)
            case Arrivals.diurnal:
                return arrivals.diurnal_arrivals(
                    rng, config.rate, period=config.period, amplitude=config.amplitude
                )
            case _:
                return poisson_arrivals(rng, config.rate)

    def _lengths(self, context: WorkloadContext, caps: tuple[int, int | None]) -> Iterator[tuple[int, int]]:
        """Lengths of prompt and output of one request after another."""
        config, seed = self._config, context.seed
        if config.lengths is Lengths.lognormal:
            prompt_cap, output_cap = caps
            assert output_cap is not None
            prompts, outputs = (
                lognormal_lengths(stream(seed, f"synthetic {name}"), mean=mean, sigma=sigma, cap=cap)
                for name, mean, sigma, cap in (
                    ("prompts", config.prompt_mean, config.prompt_sigma, prompt_cap),
                    ("outputs", config.output_mean, config.output_sigma, output_cap),
                )
            )
            return zip(prompts, outputs, strict=False)
        from quire_plugins.workloads.lengths import JointLengths
        from quire_plugins.workloads.trace_lengths import TRACES

        if config.lengths is Lengths.knots:
            last = len(config.prompt_knots) - 1
            joint = JointLengths(
                levels=[i / last for i in range(last + 1)],
                prompt=config.prompt_knots,
                output=config.output_knots,
            )
        else:
            joint = TRACES[config.lengths.value]
        if config.correlation is not None:
            joint = replace(joint, correlation=config.correlation)
        drawn = joint.draw(stream(seed, "synthetic lengths"))
        prompt_cap, output_cap = caps
        return ((min(prompt, prompt_cap), min(output, output_cap or output)) for prompt, output in drawn)

    def _caps(self, context: WorkloadContext) -> tuple[int, int | None]:
        """The longest prompt, and the longest output, which is what requests declare (None: all there is room
        for). Lognormal lengths are capped to fit into what the engine admits.
        """
        config, longest = self._config, context.max_model_tokens
        prompt_cap, output_cap = config.prompt_cap, config.output_cap
        if config.lengths is not Lengths.lognormal:
            return prompt_cap or longest, output_cap
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
