"""What every victim policy must do, as tests that a policy's own tests inherit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.engine.config import EngineConfig
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import SequenceView
from quire.interfaces.victim import VictimPolicy
from quire.testing.in_order import InOrder
from quire.testing.layouts import make_layout
from quire.testing.rehearsal import Arrival, Rehearsal, portrait
from quire.testing.sequences import make_sequence

_VOCAB = 8

_candidates = st.lists(
    st.tuples(
        st.integers(1, 30),  # tokens of the prompt
        st.integers(0, 20),  # and of the output so far
        st.integers(0, 50),  # how many of them are computed, at most
        st.integers(-2, 2),  # priority
    ),
    min_size=1,
    max_size=12,
).flatmap(lambda made: st.permutations(list(enumerate(made))))


class VictimSuite(ABC):
    """Inherit, and say how to make one:

    class TestMine(VictimSuite):
        def make(self) -> VictimPolicy:
            return Mine(config=MineConfig())
    """

    @abstractmethod
    def make(self) -> VictimPolicy:
        """A new policy, with a predictor if it wants one."""

    def test_it_chooses_one_of_the_candidates_and_changes_none(self) -> None:
        @given(candidates=_candidates)
        @settings(max_examples=100, derandomize=True, database=None, deadline=None)
        def one_of_them_is_chosen(candidates: list[tuple[int, tuple[int, int, int, int]]]) -> None:
            policy = self.make()
            views = [_running(policy, order, *facts) for order, facts in candidates]
            before = [portrait(view) for view in views]
            chosen = policy.choose(views)
            assert any(chosen is view for view in views), f"{chosen} is no candidate"
            assert policy.choose(views) is chosen, "asked again, it chose another"
            assert [portrait(view) for view in views] == before, "it changed a candidate"

        one_of_them_is_chosen()

    def test_through_little_memory_every_request_comes_to_its_end(self) -> None:
        """In the real engine, where memory holds about three of twenty requests at a time."""
        policy = _Watched(self.make())
        rehearsal = Rehearsal(
            scheduler=InOrder(),
            victims=policy,
            layout=make_layout(16, block_size=4),
            config=EngineConfig(max_sequences=6, max_step_tokens=24),
            vocab_size=_VOCAB,
        )
        rehearsal.run([_arrival(number) for number in range(20)])
        rehearsal.check_outputs()
        assert policy.choices, "nobody had to give way, so that nothing was tested"


class _Watched(VictimPolicy):
    """Passes everything on, and counts."""

    def __init__(self, policy: VictimPolicy) -> None:
        self._policy = policy
        self.predictor = policy.predictor
        self.choices = 0

    def choose(self, candidates: Sequence[SequenceView]) -> SequenceView:
        self.choices += 1
        return self._policy.choose(candidates)


def _running(
    policy: VictimPolicy, order: int, prompt: int, output: int, computed: int, priority: int
) -> SequenceView:
    sequence = make_sequence((1,) * prompt, order=order, max_tokens=64)
    sequence.request = replace(sequence.request, priority=priority, forced_output_tokens=output + 5)
    if policy.predictor is not None:
        policy.predictor.on_arrival(sequence.view, sequence.request)
    sequence.tokens += [2] * output
    sequence.num_computed = min(computed, prompt + output)
    return sequence.view


def _arrival(number: int) -> Arrival:
    sampling = SamplingParams(max_tokens=6 + number % 9, temperature=0.0, ignore_eos=True)
    prompt = tuple((number * position) % _VOCAB for position in range(5 + number % 6))
    request = Request(id=f"r{number}", prompt_token_ids=prompt, sampling=sampling, priority=number % 3)
    return Arrival(request=request, step=number // 4)
