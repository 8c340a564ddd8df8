"""What leaves the engine when: each sample's first and last piece at once, those between at most so often.

A small model makes a token of each of many streams every few milliseconds; to send each by itself would take
more of the machine than to make it. So there is a limit to the pieces a second, which all streams share: few
streams get every token at once, and so do many if steps are slow.
"""

from __future__ import annotations

from collections.abc import Iterable

from quire.engine.outputs import SequenceOutput
from quire.server.pieces import merged


class Outbox:
    """Holds pieces back and lets them go, merged: about `rate` pieces a second, infinity for all at once."""

    def __init__(self, *, rate: float) -> None:
        self._rate = rate
        self._sent = 0.0
        self._whole: dict[str, int] = {}
        """Requests whose samples leave in one piece, and how many have not left."""
        self._held: dict[tuple[str, int], list[SequenceOutput]] = {}
        """Samples that have begun, and what is held back of each."""
        self._flowing = 0
        """How many of them do not leave whole."""

    def hold(self, request_id: str, *, samples: int) -> None:
        """Let the samples of this request, so many, leave whole, each when it has ended."""
        self._whole[request_id] = samples

    def pass_on(self, outputs: Iterable[SequenceOutput], now: float) -> list[SequenceOutput]:
        """What is to go of `outputs`, the news of a step that ended at `now` seconds, and of what is held."""
        going: list[SequenceOutput] = []
        for output in outputs:
            key = (output.request_id, output.index)
            held = self._held.get(key)
            if output.finish_reason is not None:
                if held:
                    held.append(output)
                    output = merged(held)
                if self._held.pop(key, None) is not None and output.request_id not in self._whole:
                    self._flowing -= 1
                self._note_end(output.request_id)
                going.append(output)
            elif held is not None:
                held.append(output)
            elif output.request_id in self._whole:
                self._held[key] = [output]
            else:
                self._held[key] = []
                self._flowing += 1
                going.append(output)
        if now - self._sent >= self._flowing / self._rate:
            self._sent = now
            for (request_id, _), held in self._held.items():
                if held and request_id not in self._whole:
                    going.append(merged(held))
                    held.clear()
        return going

    def _note_end(self, request_id: str) -> None:
        if request_id in self._whole:
            self._whole[request_id] -= 1
            if not self._whole[request_id]:
                del self._whole[request_id]
