"""What each predictor says of outputs to come."""

import json
import random

import numpy as np
import pytest
from scipy.stats import spearmanr

from quire.engine.request import Request, SamplingParams
from quire.errors import UserError
from quire.testing import make_sequence
from quire_plugins.predictors.history import History, HistoryConfig
from quire_plugins.predictors.learned import Learned, LearnedConfig
from quire_plugins.predictors.lengths import Lengths
from quire_plugins.predictors.noisy import Noisy, NoisyConfig
from quire_plugins.predictors.oracle import Oracle, OracleConfig


def sequence(order: int = 0, *, prompt: int = 4, tenant: str = "default", max_tokens: int = 64):
    made = make_sequence((1,) * prompt, order=order, max_tokens=max_tokens)
    request = made.request
    made.request = Request(
        id=request.id, prompt_token_ids=request.prompt_token_ids, sampling=request.sampling, tenant=tenant
    )
    return made.view


def forced(length: int) -> Request:
    return Request(id="r", prompt_token_ids=(1,), forced_output_tokens=length)


def grown(view, output: int):
    """The same sequence after `output` tokens."""
    sequence = view._sequence
    sequence.tokens[sequence.num_prompt_tokens :] = [2] * output
    return view


class TestOracle:
    def test_it_knows(self):
        oracle, view = Oracle(config=OracleConfig(), seed=0), sequence()
        oracle.on_arrival(view, forced(9))
        assert [oracle.total(view), oracle.quantile(view, 0.1), oracle.remaining(view)] == [9, 9, 9]
        assert oracle.remaining(grown(view, 7)) == 2
        oracle.on_finish(view, 9)

    @pytest.mark.parametrize(
        "sampling",
        [
            SamplingParams(max_tokens=5),
            SamplingParams(ignore_eos=True),
            SamplingParams(max_tokens=5, ignore_eos=True, stop_token_ids=(1,)),
            SamplingParams(max_tokens=5, ignore_eos=True, stop=("x",)),
        ],
    )
    def test_what_nobody_can_know_is_refused(self, sampling):
        oracle = Oracle(config=OracleConfig(), seed=0)
        with pytest.raises(UserError, match="forced_output_tokens=None"):
            oracle.on_arrival(sequence(), Request(id="r", prompt_token_ids=(1,), sampling=sampling))

    def test_max_tokens_is_the_length_where_nothing_else_ends_the_output(self):
        oracle, view = Oracle(config=OracleConfig(), seed=0), sequence()
        sampling = SamplingParams(max_tokens=5, ignore_eos=True)
        oracle.on_arrival(view, Request(id="r", prompt_token_ids=(1,), sampling=sampling))
        assert oracle.total(view) == 5


LENGTHS = {
    "lognormal": lambda draw: max(1, int(draw.lognormvariate(4.5, 1.0))),
    "bimodal": lambda draw: draw.choice([draw.randint(5, 15), draw.randint(300, 500)]),
    "heavy": lambda draw: int(10 * draw.paretovariate(1.2)),
}


class TestNoisy:
    @pytest.mark.parametrize("lengths", LENGTHS)
    @pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.9])
    def test_the_rank_correlation_is_the_one_chosen(self, correlation, lengths):
        """Spearman's, of 4,000 requests: its standard error is 0.016 at 0."""
        draw = random.Random(1)
        noisy = Noisy(config=NoisyConfig(correlation=correlation), seed=3)
        truth, predicted = [], []
        for order in range(4000):
            view, length = sequence(order), LENGTHS[lengths](draw)
            noisy.on_arrival(view, forced(length))
            truth.append(length)
            predicted.append(noisy.total(view))
        assert spearmanr(truth, predicted).statistic == pytest.approx(correlation, abs=0.05)
        # Predictions are distributed as lengths are.
        for q in (0.1, 0.5, 0.9):
            assert np.quantile(predicted[500:], q) == pytest.approx(np.quantile(truth, q), rel=0.15)

    def test_a_quantile_is_kept_as_often_as_it_says(self):
        draw = random.Random(2)
        noisy = Noisy(config=NoisyConfig(correlation=0.7), seed=0)
        kept = []
        for order in range(3000):
            view, length = sequence(order), LENGTHS["lognormal"](draw)
            noisy.on_arrival(view, forced(length))
            kept.append([length <= noisy.quantile(view, q) for q in (0.1, 0.5, 0.9)])
        assert np.mean(kept[300:], axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)

    def test_full_correlation_is_the_oracle(self):
        noisy, draw = Noisy(config=NoisyConfig(correlation=1.0), seed=0), random.Random(0)
        for order in range(50):
            view, length = sequence(order), LENGTHS["heavy"](draw)
            noisy.on_arrival(view, forced(length))
            assert noisy.total(view) == noisy.quantile(view, 0.9) == length

    def test_it_never_says_less_than_there_is(self):
        noisy, view = Noisy(config=NoisyConfig(correlation=0.0), seed=0), sequence()
        noisy.on_arrival(view, forced(9))
        assert noisy.total(grown(view, 40)) == noisy.quantile(view, 0.01) == 41
        noisy.on_finish(view, None)

    def test_the_same_seed_says_the_same(self):
        def predictions(seed):
            noisy = Noisy(config=NoisyConfig(correlation=0.2), seed=seed)
            views = [sequence(order) for order in range(20)]
            for view in views:
                noisy.on_arrival(view, forced(view.order * 7 + 1))
            return [noisy.total(view) for view in views]

        assert predictions(1) == predictions(1) != predictions(2)

    def test_a_correlation_that_makes_no_sense_is_named(self):
        with pytest.raises(UserError, match=r"predictor.correlation=1.5: must be in \[0, 1\]"):
            NoisyConfig(correlation=1.5)


class TestHistory:
    def test_lengths_to_come_are_those_that_were_longer_than_this_one_is(self):
        history = History(config=HistoryConfig(), seed=0)
        for length in (10, 20, 30, 40):
            history.on_finish(sequence(), length)
        view = sequence()
        assert history.total(view) == 25
        assert history.quantile(view, 0.5) == 30
        assert history.total(grown(view, 20)) == 35
        assert history.remaining(view) == 15
        assert history.total(grown(view, 39)) == 40
        assert history.total(grown(view, 40)) == view.max_tokens  # longer than all: what was declared

    def test_before_anything_ended_it_is_what_was_declared(self):
        history, view = History(config=HistoryConfig(), seed=0), sequence(max_tokens=77)
        assert [history.total(view), history.quantile(view, 0.3)] == [77, 77]

    def test_what_was_aborted_says_nothing(self):
        history = History(config=HistoryConfig(), seed=0)
        history.on_finish(sequence(), None)
        assert history.total(sequence(max_tokens=5)) == 5

    def test_only_the_window_counts(self):
        history = History(config=HistoryConfig(window=2), seed=0)
        for length in (1000, 10, 20):
            history.on_finish(sequence(), length)
        assert history.total(sequence()) == 15

    def test_tenants_apart(self):
        history = History(config=HistoryConfig(per_tenant=True), seed=0)
        history.on_finish(sequence(tenant="a"), 10)
        history.on_finish(sequence(tenant="b"), 50)
        assert [history.total(sequence(tenant=name)) for name in "ab"] == [10, 50]


def test_lengths_against_a_plain_list():
    draw = random.Random(0)
    lengths, plain = Lengths(window=30), []
    for _ in range(400):
        length = draw.randint(1, 20)
        lengths.add(length)
        plain = [*plain, length][-30:]
        above = draw.randint(0, 22)
        tail = sorted(each for each in plain if each > above)
        assert lengths.mean(above=above) == (pytest.approx(np.mean(tail)) if tail else None)
        q = draw.random()
        assert lengths.quantile(q, above=above) == (tail[int(q * len(tail))] if tail else None)
        below = sum(each < length for each in plain) / len(plain)
        upto = sum(each <= length for each in plain) / len(plain)
        assert lengths.place(length, 0.0) == pytest.approx(below)
        assert lengths.place(length, 0.5) == pytest.approx((below + upto) / 2)
        assert len(lengths) == len(plain)


def write_log(path, rows):
    lines = [
        {
            "num_prompt_tokens": prompt,
            "tenant": tenant,
            "finish_reason": reason,
            "token_times": [0.0] * output,
        }
        for prompt, tenant, output, reason in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def learned(path, rows, **options) -> Learned:
    return Learned(config=LearnedConfig(log=write_log(path, rows), **options), seed=0)


def ask(predictor, **attributes):
    view = sequence(**attributes)
    predictor.on_arrival(view, forced(1))
    return view


class TestLearned:
    def test_it_learns_that_outputs_depend_on_prompt_and_tenant(self, tmp_path):
        """Outputs of twice the prompt for one tenant and of ten tokens for the other, with noise."""
        draw = random.Random(0)
        rows = []
        for _ in range(2000):
            tenant, prompt = draw.choice(["long", "short"]), draw.randint(10, 200)
            mean = 2 * prompt if tenant == "long" else 10
            rows.append((prompt, tenant, max(1, int(draw.gauss(mean, 0.1 * mean))), "stop"))
        model = learned(tmp_path / "requests.jsonl", rows)
        totals = [
            model.total(ask(model, order=i, prompt=prompt, tenant=tenant))
            for i, (prompt, tenant) in enumerate([(20, "short"), (180, "short"), (20, "long"), (180, "long")])
        ]
        assert totals[0] == pytest.approx(10, rel=0.5)
        assert totals[1] == pytest.approx(10, rel=0.5)
        assert totals[2] == pytest.approx(40, rel=0.5)
        assert totals[3] == pytest.approx(360, rel=0.3)

    def test_ranks_are_right_where_they_can_be_known(self, tmp_path):
        draw = random.Random(1)
        rows = [
            (p := draw.randint(5, 400), "t", max(1, int(p * draw.lognormvariate(0, 0.3))), "length")
            for _ in range(1500)
        ]
        model = learned(tmp_path / "requests.jsonl", rows[:1000])
        predicted = [
            model.score(ask(model, order=i, prompt=row[0], tenant="t")) for i, row in enumerate(rows[1000:])
        ]
        assert spearmanr([row[2] for row in rows[1000:]], predicted).statistic > 0.85

    def test_quantiles_are_kept_as_often_as_they_say(self, tmp_path):
        draw = random.Random(2)
        rows = [(50, "t", max(1, int(draw.lognormvariate(3, 1))), "stop") for _ in range(3000)]
        model = learned(tmp_path / "requests.jsonl", rows[:2000])
        view = ask(model, prompt=50, tenant="t")
        for q in (0.1, 0.5, 0.9):
            within = np.mean([row[2] <= model.quantile(view, q) for row in rows[2000:]])
            assert within == pytest.approx(q, abs=0.05)
        grown(view, 20)  # of those that are longer than 20
        later = [row[2] for row in rows[2000:] if row[2] > 20]
        assert np.mean([length <= model.quantile(view, 0.5) for length in later]) == pytest.approx(
            0.5, abs=0.08
        )
        assert model.total(view) == pytest.approx(np.mean(later), rel=0.2)

    def test_longer_than_any_logged_one(self, tmp_path):
        model = learned(tmp_path / "requests.jsonl", [(5, "t", 4, "stop"), (5, "t", 8, "stop")])
        view = grown(ask(model, max_tokens=100), 20)
        assert model.total(view) == model.quantile(view, 0.1) == 40
        assert model.total(grown(view, 99)) == 100
        model.on_finish(view, 100)

    def test_one_length_is_enough(self, tmp_path):
        model = learned(tmp_path / "requests.jsonl", [(5, "t", 7, "stop")])
        assert model.total(ask(model, tenant="never seen")) == 7

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no completed request to learn from"),
            (
                '{"num_prompt_tokens": 3, "tenant": "t", "finish_reason": "abort", "token_times": [1]}\n',
                "no completed",
            ),
            ('{"index": 0}\n', "line 1 is no record of a request"),
            ("no json\n", "line 1 is no record of a request"),
            (None, "cannot be read: No such file"),
        ],
    )
    def test_a_log_that_teaches_nothing_is_an_error_at_the_start(self, tmp_path, text, message):
        path = tmp_path / "requests.jsonl"
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=f"predictor.log={path}: {message}"):
            Learned(config=LearnedConfig(log=str(path)), seed=0)
