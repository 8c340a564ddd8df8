"""The suites of workloads and trackers fail for what breaks their contracts."""

from __future__ import annotations

import ast
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from complaints import complaint

from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.interfaces import Tracker, Workload
from quire.testing import TrackerSuite, WorkloadSuite


class Sound(Workload):
    """Ten requests, each of which sets off another."""

    reacts = True

    def __init__(self):
        self.followed = 0

    def __len__(self):
        return 20

    def requests(self, context):
        if context.max_model_tokens < 8:
            raise UserError("requests have 8 tokens")
        self.context = context
        self.random = random.Random(context.seed)
        return (self.request(index, index * 0.5) for index in range(10))

    def request(self, index, arrival, **changes):
        tokens = tuple(self.random.randrange(self.context.vocab_size) for _ in range(5))
        sampling = SamplingParams(max_tokens=3)
        fields = {"id": f"r{index}", "prompt_token_ids": tokens, "arrival_time": arrival} | changes
        return Request(sampling=sampling, **fields)

    def on_end(self, request, token_ids, reason, now):
        if self.followed == 10:
            return []
        self.followed += 1
        return [self.request(9 + self.followed, now)]


class Unsorted(Sound):
    def requests(self, context):
        return iter(list(super().requests(context))[::-1])


class OneName(Sound):
    def request(self, index, arrival):
        return super().request(0, arrival)


class BeyondTheVocabulary(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, prompt_token_ids=(self.context.vocab_size,))


class NumpyTokens(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, prompt_token_ids=tuple(np.arange(3)))


class PastDeadlines(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, deadline=arrival - 1)


class TooLong(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, prompt_token_ids=(1,) * 58)


class RefusesLate(Sound):
    def request(self, index, arrival):
        if index == 5 and self.context.max_model_tokens < 30:
            raise UserError("request 5 is too long")
        return super().request(index, arrival)


class SaysTooFew(Sound):
    def __len__(self):
        return 10


class SaysTooMany(Sound):
    def __len__(self):
        return 30


class TornNotes(Sound):
    def notes(self):
        return {"left_out": {1, 2}}


class GlobalGenerator(Sound):
    def requests(self, context):
        random.seed(context.seed)
        return super().requests(context)


class Unrepeatable(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, priority=random.SystemRandom().randrange(1000))


class ByHash(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, priority=hash(f"r{index}"))


class NoSeed(Sound):
    def request(self, index, arrival):
        return super().request(index, arrival, prompt_token_ids=(index,))


class FollowsEarly(Sound):
    def on_end(self, request, token_ids, reason, now):
        return super().on_end(request, token_ids, reason, now - 0.001)


class NeedsAnswers(Sound):
    def on_end(self, request, token_ids, reason, now):
        assert reason is not FinishReason.ERROR, "what did it say?"
        return super().on_end(request, token_ids, reason, now)


class HalfRight(Sound):
    def solved(self, request_id, text):
        return 0.5


@pytest.mark.parametrize(
    ("kind", "only", "said"),
    [
        (Sound, "test_", ""),
        (Unsorted, "test_requests_are", "not in the order of their arrival"),
        (OneName, "test_requests_are", "two requests have the same name"),
        (BeyondTheVocabulary, "test_requests_are", "of a vocabulary of"),
        (NumpyTokens, "test_requests_are", "has tokens of int64"),
        (PastDeadlines, "test_requests_are", "is due at"),
        (TooLong, "test_what_does_not_fit", "17 are admitted"),
        (RefusesLate, "test_what_does_not_fit", "requests it said: request 5 is too long"),
        (SaysTooFew, "test_it_says", "20 requests, it said 10"),
        (SaysTooMany, "test_it_says", "its notes say nothing"),
        (TornNotes, "test_it_says", "not JSON serializable"),
        (GlobalGenerator, "test_the_same_seed", "global generator"),
        (Unrepeatable, "test_the_same_seed", "AssertionError"),
        (ByHash, "test_another_process", "depend on the process"),
        (NoSeed, "test_another_seed", "seeds 0 and 1"),
        (FollowsEarly, "test_requests_are", "before the end that set it off"),
        (NeedsAnswers, "test_requests_that_fail", "what did it say?"),
        (HalfRight, "test_any_text", "is 0.5"),
    ],
)
def test_workloads(kind, only, said):
    class Suite(WorkloadSuite):
        def make(self):
            return kind()

    found = complaint(Suite(), only)
    assert said in found
    assert bool(said) == bool(found)


class Names(Tracker):
    """A line a request, written at once."""

    def start(self, directory, description):
        self.path = directory / "names"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(b"")
        except OSError as error:
            raise UserError(str(error)) from None

    def step(self, record):
        pass

    def request(self, record):
        try:
            self.write(record.request_id)
        except OSError:
            pass  # not worth the run

    def write(self, name):
        with self.path.open("ab") as file:
            file.write(ascii(name).encode() + b"\n")

    def finish(self, summary):
        pass


class Elsewhere(Names):
    def finish(self, summary):
        Path("summary").write_text("done")
        super().finish(summary)


class BesideIt(Names):
    def start(self, directory, description):
        super().start(directory, description)
        (directory.parent / "latest").write_text(str(directory))


class Loses(Names):
    def request(self, record):
        if record.finish_reason != "abort":
            super().request(record)


class Remembers(Names):
    seen: list = []  # noqa: RUF012 - what is wrong with it

    def request(self, record):
        self.seen.append(record)

    def finish(self, summary):
        for record in self.seen:
            super().request(record)
        super().finish(summary)


class Corrects(Names):
    def request(self, record):
        super().request(record)
        record.error = record.error or "none"


class Lingers(Names):
    def step(self, record):
        time.sleep(0.001)


class Strict(Names):
    def request(self, record):
        self.write(record.request_id)


class Unchecked(Names):
    def start(self, directory, description):
        directory.mkdir(parents=True)
        super().start(directory, description)


class OnlyText(Names):
    def request(self, record):
        record.request_id.encode()
        super().request(record)


class OnlyTheNewest(Names):
    def request(self, record):
        self.path.write_bytes(b"")
        super().request(record)


@pytest.mark.parametrize(
    ("kind", "only", "said"),
    [
        (Names, "test_", ""),
        (Elsewhere, "test_a_run_is", "it wrote outside of the run's directory: ['outside/summary']"),
        (BesideIt, "test_a_run_is", "it wrote beside it"),
        (Loses, "test_a_run_is", "recorded are"),
        (Remembers, "test_runs_after", "recorded are"),
        (Corrects, "test_records_stay", "it changed a record"),
        (Lingers, "test_a_step", "us to record"),
        (Strict, "test_a_run_goes_on_when", "FileNotFoundError"),
        (Unchecked, "test_a_directory", "NotADirectoryError"),
        (OnlyText, "test_a_run_is", "UnicodeEncodeError"),
        (OnlyTheNewest, "test_a_run_that", "of ["),
    ],
)
def test_trackers(kind, only, said):
    class Suite(TrackerSuite):
        def make(self):
            return kind()

        def recorded(self, directory):
            lines = (directory / "names").read_bytes().splitlines()
            return [ast.literal_eval(line.decode()) for line in lines]

    found = complaint(Suite(), only)
    assert said in found
    assert bool(said) == bool(found)


def test_a_tracker_that_writes_nothing():
    class Nothing(Names):
        def start(self, directory, description):
            self.path = Path(os.devnull)

    class Suite(TrackerSuite):
        def make(self):
            return Nothing()

    assert "nothing was written" in complaint(Suite(), "test_a_run_is")
