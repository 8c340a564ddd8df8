"""Where each output stands in its grammar: llguidance's matchers, found by the tokens that they have read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quire.errors import UserError
from quire_plugins.logits_processors.grammar_forms import llguidance_text

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher, LLTokenizer

    from quire.engine.request import SamplingParams

_GRAMMARS = 256
_SPARE = 256
"""Matchers kept besides those of the latest step's rows; some 25 KB each."""


class CompiledGrammars:
    """The grammars of recent requests as matchers that have read nothing. Two threads may ask it."""

    def __init__(self, *, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_text: OrderedDict[str, LLMatcher] = OrderedDict()
        self._by_params: OrderedDict[int, tuple[SamplingParams, LLMatcher]] = OrderedDict()
        """By identity, which spares writing a schema out at each token. It holds what it identifies."""
        self._lock = threading.Lock()

    def of(self, params: SamplingParams) -> LLMatcher:
        """To be copied before it reads. Raises UserError, with llguidance's reason, if there is none."""
        with self._lock:
            known = self._by_params.get(id(params))
            if known is not None:
                return known[1]
            matcher = self._compile(llguidance_text(params.extra["grammar"]), params.extra["grammar"])
            self._by_params[id(params)] = (params, matcher)
            if len(self._by_params) > _GRAMMARS:
                self._by_params.popitem(last=False)
            return matcher

    def _compile(self, text: str, given: Any) -> LLMatcher:
        from llguidance import LLMatcher

        matcher = self._by_text.get(text)
        if matcher is not None:
            self._by_text.move_to_end(text)
            return matcher
        matcher = LLMatcher(self._tokenizer, text, log_level=0)
        probe = matcher.deep_copy()
        if not probe.is_error():
            probe.compute_bitmask()  # only now it turns out if no text can fulfil the grammar
        if probe.is_error():
            # llguidance appends its state, and shows where it stopped reading on lines of their own.
            reason = " ".join(probe.get_error().partition("<state>")[0].split())
            if reason.startswith("NoExtension"):
                reason = "no text fulfils it"
            raise UserError(f"grammar.{next(iter(given))}: {reason[:300]}")
        self._by_text[text] = matcher
        if len(self._by_text) > _GRAMMARS:
            self._by_text.popitem(last=False)
        return matcher


class Matchers:
    """Matchers of recent outputs, by grammar and tokens read.

    A sequence is recognised by nothing but its tokens: the matcher that has read all but the newest goes on;
    where there is none (a sequence that was preempted and comes back, a fork, an output that another one
    equalled so far) a new one reads the whole output, at 0.3 us a token.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, bytes], tuple[LLMatcher, LLMatcher]] = OrderedDict()
        """Each with the grammar that it is of, whose identity is in the key."""

    def of_step(self, outputs: Sequence[tuple[LLMatcher, np.ndarray]]) -> list[LLMatcher]:
        """For each row of a step, its grammar and output (int32), a matcher of the grammar that has read the
        output; no two are the same object.
        """
        step: dict[tuple[int, bytes], tuple[LLMatcher, LLMatcher]] = {}
        matchers: list[LLMatcher] = []
        for grammar, output in outputs:
            read = output.tobytes()
            key = (id(grammar), read)
            # Not among this step's own: the matcher of a row that is one token behind is that row's.
            known = self._kept.pop((id(grammar), read[: -output.itemsize]), None) if read else None
            if known is not None:
                matcher = known[1]
                matcher.consume_token(int(output[-1]))
            elif key in step:
                matcher = step[key][1].deep_copy()
            else:
                matcher = grammar.deep_copy()
                matcher.consume_tokens(output.tolist())
            step[key] = (grammar, matcher)
            matchers.append(matcher)
        self._kept.update(step)
        while len(self._kept) > len(step) + _SPARE:
            self._kept.popitem(last=False)
        return matchers
