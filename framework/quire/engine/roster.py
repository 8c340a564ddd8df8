"""The roster: which requests live, in how many sequences, and in which queue each of them stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.engine.dispatch import Dispatch
from quire.engine.queues import QueueView, RunningView, SequenceQueue, WaitingView
from quire.engine.records import RequestRecord
from quire.engine.request import Request
from quire.engine.sequence import Sequence, Status
from quire.errors import RequestRefused
from quire.interfaces.allocator import KVAllocator

if TYPE_CHECKING:
    from quire.text.tokenizer import Tokenizer


class Roster:
    """Moves sequences between the queues; those that leave the running one give back memory and slot.

    Its `view` is what policies see; the same object for ever, brought up to date by `look`.
    """

    def __init__(
        self,
        *,
        allocator: KVAllocator,
        dispatch: Dispatch,
        tokenizer: Tokenizer | None,
        max_sequences: int,
        now: float,
    ) -> None:
        self.waiting = SequenceQueue()
        self.running = SequenceQueue()
        self.view = QueueView(waiting=WaitingView(self.waiting), running=RunningView([]), now=now)
        self._allocator = allocator
        self._dispatch = dispatch
        self._tokenizer = tokenizer
        self._max_sequences = max_sequences
        self._living: dict[str, list[Sequence]] = {}
        self._names: set[str] = set()
        """Ids of the sequences of living requests, those still to be forked included."""
        self._next_order = 0

    def __len__(self) -> int:
        """Requests that live."""
        return len(self._living)

    def of(self, request_id: str) -> tuple[Sequence, ...]:
        """The living sequences of a request; none if it does not live."""
        return tuple(self._living.get(request_id, ()))

    def look(self, now: float) -> QueueView:
        """The queues as of now: of the running sequences, those that have something to compute."""
        busy = [sequence for sequence in self.running if not sequence.will_reach_limit]
        self.view._refresh(running=RunningView(busy), now=now)  # pyright: ignore[reportPrivateUsage]
        return self.view

    def check_name(self, request: Request) -> None:
        """Raise RequestRefused if the request, or one of its samples, is called as another that lives."""
        if request.id in self._living:
            raise RequestRefused(f"request {request.id!r}: a request of that id is being served")
        if taken := self._names & _names(request):
            raise RequestRefused(
                f"request {request.id!r}: {min(taken)!r} names a sample of another request that is being "
                "served"
            )

    def first(self, request: Request, *, max_tokens: int, whole: bool, now: float) -> Sequence:
        """The request's first sequence, which has not entered yet; `whole` if it is to come in one piece."""
        arrival = now if request.arrival_time is None else request.arrival_time
        return self._make(request, 0, self._next_order, arrival, max_tokens, whole)

    def enter(self, sequence: Sequence) -> None:
        """A request's first sequence waits from now on."""
        request = sequence.request
        self._next_order += request.sampling.n
        self._living[request.id] = [sequence]
        self._names |= _names(request)
        self.waiting.add(sequence)

    def fork(self, parent: Sequence) -> list[Sequence]:
        """The other samples of a request whose prompt `parent` has computed; they share its blocks.

        Each recomputes what its parent holds in a block that is still written, at least the prompt's last
        token, to draw its own first token from it. One that cannot share waits.
        """
        children: list[Sequence] = []
        for index in range(1, parent.sampling.n):
            child = self._make(
                parent.request,
                index,
                parent.order + index,
                parent.arrival_time,
                parent.max_tokens,
                parent.whole,
            )
            if len(self.running) < self._max_sequences and child.view.shares_prefixes:
                child.num_computed = self._allocator.fork(parent.view, child.view)
            if child.num_computed:
                child.status = Status.RUNNING
                self.running.add(child)
            else:
                self.waiting.add(child)
            children.append(child)
        self._living[parent.request.id] += children
        return children

    def start(self, sequence: Sequence, *, num_computed: int) -> None:
        """A waiting sequence that a step took in runs from now on; so many tokens it need not compute."""
        del sequence.prompt_logprobs[num_computed:]  # there is one for each position; these come again
        self.waiting.remove(sequence)
        self.running.add(sequence)
        sequence.status = Status.RUNNING

    def preempt(self, sequence: Sequence) -> None:
        """A running sequence, whose memory the step has taken away, waits again where it arrived."""
        self._leave(sequence)
        sequence.status = Status.WAITING
        sequence.num_computed = sequence.num_pending = 0
        sequence.num_preemptions += 1
        sequence.record.mark_preempted(self.view.now)
        self.waiting.add(sequence)

    def end(self, sequence: Sequence) -> None:
        """Forget a sequence; its request goes with its last one."""
        if sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
        else:
            self._leave(sequence)
        self._allocator.free(sequence.view)  # of one that waits something may be kept or remembered
        sequence.status = Status.FINISHED
        siblings = self._living[sequence.request.id]
        siblings.remove(sequence)
        if not siblings:
            del self._living[sequence.request.id]
            self._names -= _names(sequence.request)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._dispatch.release(sequence)

    def _make(
        self, request: Request, index: int, order: int, arrival: float, max_tokens: int, whole: bool
    ) -> Sequence:
        text = None
        if self._tokenizer is not None:
            sampling = request.sampling
            text = self._tokenizer.stream(stop=sampling.stop, min_tokens=sampling.min_tokens)
        return Sequence(
            id=_name(request, index),
            request=request,
            order=order,
            arrival_time=arrival,
            index=index,
            max_tokens=max_tokens,
            output_limit=request.forced_output_tokens or max_tokens,
            tokens=list(request.prompt_token_ids),
            text=text,
            whole=whole,
            record=RequestRecord(
                request_id=request.id,
                sample=index,
                tenant=request.tenant,
                arrival=arrival,
                num_prompt_tokens=len(request.prompt_token_ids),
                num_samples=request.sampling.n,
            ),
        )


def _name(request: Request, index: int) -> str:
    """The id of a sample's sequence."""
    return request.id if request.sampling.n == 1 else f"{request.id}/{index}"


def _names(request: Request) -> set[str]:
    return {_name(request, index) for index in range(request.sampling.n)}
