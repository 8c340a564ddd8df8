"""Who is told which sequences come and go, through the engine."""

import pytest

from quire.engine.request import Request, SamplingParams
from quire.errors import RequestRefused, UserError
from quire.interfaces import LengthPredictor
from quire.testing.layouts import make_layout
from quire.testing.rehearsal import Arrival, Rehearsal
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig
from quire_plugins.victims.last import Last, LastConfig

TWO_SAMPLES = Request(
    id="a", prompt_token_ids=(1, 2, 3), forced_output_tokens=3, sampling=SamplingParams(n=2, max_tokens=3)
)
CALLED_OFF = Request(id="b", prompt_token_ids=(4,), sampling=SamplingParams(max_tokens=9))


class Listener(LengthPredictor):
    """Notes what it hears, under its name."""

    def __init__(self, name, log):
        self.name = name
        self.log = log

    def total(self, seq):
        return seq.num_output_tokens + 1

    def quantile(self, seq, q):
        return self.total(seq)

    def on_arrival(self, seq, request):
        self.log.append((self.name, "comes", seq.id))
        if not request.prompt_token_ids[0]:
            raise UserError("prompts that begin with 0 are not served")

    def on_finish(self, seq, output_tokens):
        self.log.append((self.name, seq.id, output_tokens))


class Heard(Fcfs):
    """Notes what it hears, as `scheduler`."""

    def __init__(self, log, predictor=None):
        super().__init__(config=FcfsConfig())
        self.log = log
        self.predictor = predictor

    def on_arrival(self, seq):
        self.log.append(("scheduler", "comes", seq.id))

    def on_finish(self, seq):
        self.log.append(("scheduler", seq.id))


def rehearsal(log, *, of_scheduler=None, of_victims=None):
    victims = Last(config=LastConfig())
    victims.predictor = of_victims
    return Rehearsal(scheduler=Heard(log, of_scheduler), victims=victims, layout=make_layout(16))


@pytest.mark.parametrize("users", [("of_scheduler",), ("of_victims",), ("of_scheduler", "of_victims")])
def test_a_predictor_hears_of_each_sequence_once_however_many_policies_use_it(users):
    log = []
    told = rehearsal(log, **dict.fromkeys(users, Listener("predictor", log)))
    told.run([Arrival(request=TWO_SAMPLES), Arrival(request=CALLED_OFF, abort=0)])
    told.check_outputs()
    assert log == [
        ("predictor", "comes", "a/0"),
        ("scheduler", "comes", "a/0"),
        ("predictor", "comes", "b"),
        ("scheduler", "comes", "b"),
        ("predictor", "b", None),
        ("scheduler", "b"),
        ("predictor", "comes", "a/1"),
        ("scheduler", "comes", "a/1"),
        ("predictor", "a/0", 3),
        ("scheduler", "a/0"),
        ("predictor", "a/1", 3),
        ("scheduler", "a/1"),
    ]


def test_two_predictors_hear_of_it_both():
    log = []
    told = rehearsal(log, of_scheduler=Listener("one", log), of_victims=Listener("other", log))
    told.run([Arrival(request=CALLED_OFF, abort=0)])
    assert [who for who, *_ in log] == ["one", "other", "scheduler"] * 2


def test_a_request_that_a_predictor_refuses_does_not_enter():
    log = []
    engine = rehearsal(log, of_scheduler=Listener("predictor", log)).engine
    with pytest.raises(RequestRefused, match="request 'c': prompts that begin with 0 are not served"):
        engine.add(Request(id="c", prompt_token_ids=(0,), sampling=SamplingParams(max_tokens=1)))
    assert not engine.has_work
    assert log == [("predictor", "comes", "c")]
