"""One choice of a completion: pieces of the engine's output as pieces of OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quire.engine.outputs import SequenceOutput
from quire.engine.plan import TokenLogprobs
from quire.engine.sequence import FinishReason
from quire.server.http.front_tokenizer import FrontTokenizer
from quire.server.http.logprobs import CompletionLogprobs, joined
from quire.server.http.prompts import Prompt


class CompletionChoice:
    """Turns what comes of one sample, in pieces or whole, into the objects that clients read.

    `echo` is the prompt's text, which then comes before the output; without `generates` nothing follows it.
    """

    def __init__(
        self,
        *,
        index: int,
        prompt: Prompt,
        echo: str | None,
        generates: bool,
        with_logprobs: bool,
        tokenizer: FrontTokenizer,
    ) -> None:
        self._index = index
        self._prompt = prompt
        self._echo = echo
        self._generates = generates
        self._logprobs = CompletionLogprobs(tokenizer) if with_logprobs else None
        self._begun = False

    def piece(self, output: SequenceOutput) -> dict[str, Any] | None:
        """The next piece; None if there is nothing to tell of it."""
        text, logprobs = self._output(output)
        if not self._begun:
            self._begun = True
            if self._echo is not None:
                text = self._echo + text
                logprobs = self._with_prompt(output.prompt_logprobs, logprobs)
        if not text and logprobs is None and output.finish_reason is None:
            return None
        return {
            "index": self._index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": _finish_reason(output, generates=self._generates),
        }

    def _output(self, output: SequenceOutput) -> tuple[str, dict[str, Any] | None]:
        if not self._generates:
            return "", None
        if self._logprobs is None or not output.logprobs:
            return output.text, None
        if self._echo is not None and not self._begun:
            self._logprobs.skip(len(self._echo))
        return output.text, self._logprobs.output(output.logprobs)

    def _with_prompt(
        self, prompt: Sequence[TokenLogprobs], output: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        if self._logprobs is None:
            return None
        assert self._echo is not None
        lists = self._logprobs.prompt(self._prompt.token_ids, prompt, self._echo)
        return lists if output is None else joined(lists, output)


def _finish_reason(output: SequenceOutput, *, generates: bool) -> str | None:
    if output.finish_reason is None:
        return None
    return output.finish_reason.value if generates else FinishReason.LENGTH.value


def mean_logprob(output: SequenceOutput) -> float:
    """Mean log probability of the tokens of a whole sample; what `best_of` ranks by."""
    return sum(entry.logprob for entry in output.logprobs) / max(1, len(output.logprobs))
