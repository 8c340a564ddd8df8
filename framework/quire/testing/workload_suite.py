"""What every workload must do, as tests that a workload's own tests inherit."""

from __future__ import annotations

import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice

from quire.engine.request import Request
from quire.errors import UserError
from quire.interfaces.workload import Workload
from quire.models.checkpoint import DEMO, open_checkpoint
from quire.testing.served_requests import Served, arrival, served, served_elsewhere


class WorkloadSuite(ABC):
    """Inherit, and say how to make one:

        class TestMine(WorkloadSuite):
            def make(self) -> Workload:
                return Mine(config=MineConfig())

    Requests are made for the demo model, and answered by an engine that takes the same time for each. A few
    hundred are enough: all of them are looked at.
    """

    drawn: bool = True
    """Whether another seed makes other requests: not so where a file says all about them."""
    max_model_tokens: int = 1024
    """The longest sequence that is admitted."""

    @abstractmethod
    def make(self) -> Workload:
        """A new workload, which has made nothing. Pickle takes it to another process."""

    def test_requests_are_those_of_a_sound_caller(self) -> None:
        """Names of their own, tokens of the vocabulary, room for the output, times in order."""
        for seconds in (0.01, 100.0):
            made = list(self._served(seconds=seconds))
            assert made, f"no request fits into {self.max_model_tokens} tokens"
            self._check(made)

    def test_what_does_not_fit_is_left_out_or_refused_before_the_first_request(self) -> None:
        for longest in (2, 17, 60):
            made: list[Served] = []
            try:
                made.extend(self._served(longest=longest))
            except UserError as error:
                refusal = str(error)
            else:
                refusal = ""
            assert not (made and refusal), f"after {len(made)} requests it said: {refusal}"
            self._check(made, longest=longest)

    def test_it_says_how_many_there_will_be_and_what_it_left_out(self) -> None:
        for longest in (self.max_model_tokens, 60):
            workload = self.make()
            expected, made = len(workload), 0
            try:
                for _ in self._served(workload, longest=longest):
                    made += 1
            except UserError:
                continue
            notes = workload.notes()
            assert json.loads(json.dumps(notes)) == dict(notes), f"notes are no plain data: {notes}"
            assert made <= expected, f"{made} requests, it said {expected}"
            assert made == expected or notes, f"{made} requests of {expected}, and its notes say nothing"

    def test_the_same_seed_makes_the_same_requests(self) -> None:
        state = random.getstate()
        first = list(self._served())
        assert random.getstate() == state, "it draws from the random module's global generator"
        assert list(self._served()) == first

    def test_another_process_makes_the_same_requests(self) -> None:
        elsewhere = served_elsewhere(self.make(), seed=0, max_model_tokens=self.max_model_tokens)
        assert elsewhere == list(self._served()), (
            "requests depend on the process, perhaps on hashes of strings"
        )

    def test_another_seed_makes_other_requests(self) -> None:
        if self.drawn:
            assert list(self._served(seed=1)) != list(self._served()), "seeds 0 and 1 make the same requests"

    def test_requests_that_fail_do_not_stop_it(self) -> None:
        self._check(list(self._served(fails=True)))

    def test_any_text_is_right_or_wrong_or_neither(self) -> None:
        workload = self.make()
        for request, _ in islice(self._served(workload), 50):
            for text in ("", "42\n", "\ud800 is half a character"):
                verdict = workload.solved(request.id, text)
                assert verdict in (True, False, None), f"{text!r} is {verdict!r}"

    def _served(
        self,
        workload: Workload | None = None,
        *,
        seed: int = 0,
        longest: int | None = None,
        seconds: float = 1.0,
        fails: bool = False,
    ) -> Iterator[Served]:
        return served(
            workload or self.make(),
            seed=seed,
            max_model_tokens=longest or self.max_model_tokens,
            seconds=seconds,
            fails=fails,
        )

    def _check(self, made: list[Served], longest: int | None = None) -> None:
        names = [request.id for request, _ in made]
        assert len(set(names)) == len(names), "two requests have the same name"
        vocab_size = open_checkpoint(DEMO).config["vocab_size"]
        for request, after in made:
            _check_request(request, vocab_size, longest or self.max_model_tokens)
            assert after is None or arrival(request) >= after, (
                f"{request.id} arrives at {request.arrival_time}, before the end that set it off, at {after}"
            )
        times = [arrival(request) for request, after in made if after is None]
        assert times == sorted(times), "requests are not in the order of their arrival"


def _check_request(request: Request, vocab_size: int, longest: int) -> None:
    name, tokens = request.id, request.prompt_token_ids
    kinds = {type(token).__name__ for token in tokens}
    assert kinds == {"int"}, f"{name} has tokens of {', '.join(sorted(kinds))}"
    assert 0 <= min(tokens) <= max(tokens) < vocab_size, (
        f"{name} has tokens from {min(tokens)} to {max(tokens)}, of a vocabulary of {vocab_size}"
    )
    output = max(request.forced_output_tokens or 1, request.sampling.max_tokens or 1)
    assert len(tokens) + output <= longest, (
        f"{name} has {len(tokens)} + {output} tokens, {longest} are admitted"
    )
    time = arrival(request)
    assert 0 <= time < math.inf, f"{name} arrives at {time}"
    assert request.tenant, f"{name} is of a tenant without a name"
    assert request.session != "", f"{name} is of a session without a name"
    if request.deadline is not None:
        assert time <= request.deadline < math.inf, f"{name} arrives at {time}, is due at {request.deadline}"
