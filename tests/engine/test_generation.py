"""What a request may ask for, on a tiny random model: samples, log probabilities, endings, failures."""

import pytest
import torch
from checkpoints import VOCABULARY, make_checkpoint

from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.errors import RequestRefused
from quire.jobs.feed import serve
from quire.registry import load_registry
from quire.run import Run

PROMPT = tuple(range(10, 40))


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen2")
    torch.set_num_threads(1)
    return path, make_checkpoint("qwen2", path)


@pytest.fixture
def make_engine(registry, checkpoint):
    engines = []

    def make(*overrides):
        config = compose(
            [f"model={checkpoint[0]}", "dtype=float32", "device=cpu", "engine.threads=1", *overrides],
            registry,
        )
        engines.append(Run(config=config, registry=registry, directory=checkpoint[0]).engine(with_text=False))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def request(id="r", prompt=PROMPT, **sampling):
    sampling.setdefault("temperature", 0.0)
    sampling.setdefault("max_tokens", 12)
    return Request(id=id, prompt_token_ids=tuple(prompt), sampling=SamplingParams(**sampling))


def run(engine, *requests):
    """Outputs of each (request, sample), in order."""
    news = {}
    for outputs in serve(engine, requests):
        engine.allocator.check_integrity()
        for output in outputs:
            news.setdefault((output.request_id, output.index), []).append(output)
    assert engine.allocator.stats().used == 0
    return news


def tokens(outputs):
    return [token for output in outputs for token in output.token_ids]


def distribution(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def test_prompt_and_output_logprobs_are_those_of_the_model(make_engine, checkpoint):
    engine = make_engine("engine.max_step_tokens=7")  # the prompt comes in chunks
    (outputs,) = run(engine, request(logprobs=3, prompt_logprobs=2)).values()
    made = tokens(outputs)
    expected = distribution(checkpoint[1], [*PROMPT, *made])
    prompt = outputs[0].prompt_logprobs
    assert [each.token_id for each in prompt] == list(PROMPT[1:])
    given = [*prompt, *(each for output in outputs for each in output.logprobs)]
    for position, each in enumerate(given):
        row = expected[position]
        assert each.logprob == pytest.approx(row[each.token_id].item(), abs=1e-4)
        assert each.rank == 1 + int((row > row[each.token_id]).sum())
        top = row.topk(len(each.top))
        assert [token for token, _ in each.top] == top.indices.tolist()
        assert [value for _, value in each.top] == pytest.approx(top.values.tolist(), abs=1e-4)
    assert [len(each.top) for each in given] == [2] * len(prompt) + [3] * len(made)


def test_prompt_logprobs_are_whole_after_a_preemption_and_never_from_the_cache(make_engine):
    engine = make_engine("engine.block_size=16", "engine.kv_bytes=73728", "engine.max_sequences=4")
    alone = run(engine, request("alone", prompt_logprobs=0))
    together = run(engine, *(request(str(i), prompt_logprobs=0, max_tokens=40) for i in range(4)))
    assert any(outputs[-1].record.num_preemptions for outputs in together.values())
    for outputs in [*alone.values(), *together.values()]:
        assert outputs[-1].record.num_cached_tokens == 0
        assert [each.token_id for each in outputs[0].prompt_logprobs] == list(PROMPT[1:])


def test_samples_of_a_request_share_its_prompt_and_differ(make_engine):
    engine = make_engine("engine.block_size=16", "allocator.prefix_cache=false")
    news = run(engine, request(n=4, temperature=1.0, seed=3, ignore_eos=True))
    assert sorted(news) == [("r", index) for index in range(4)]
    assert len({tuple(tokens(outputs)) for outputs in news.values()}) > 1
    computed = [outputs[-1].record.num_computed_tokens for _, outputs in sorted(news.items())]
    prompt, output, shared = len(PROMPT), 12, 16
    assert computed == [prompt + output - 1] + [prompt - shared + output - 1] * 3


def test_a_seeded_draw_does_not_depend_on_batch_order_or_policy(make_engine):
    asked = request("same", temperature=1.0, seed=11, top_p=0.9, max_tokens=20)
    alone = tokens(run(make_engine(), asked)["same", 0])
    others = [request(f"o{i}", prompt=PROMPT[i:], temperature=1.0, seed=i) for i in range(5)]
    engine = make_engine("scheduler=sarathi", "scheduler.chunk_tokens=9", "engine.block_size=16")
    assert tokens(run(engine, *others, asked)["same", 0]) == alone


def test_without_a_seed_the_run_seed_decides(make_engine):
    asked = request(temperature=1.0, max_tokens=20)
    first, again, other = (tokens(run(make_engine(f"seed={seed}"), asked)["r", 0]) for seed in (1, 1, 2))
    assert first == again != other


def test_samples_come_the_same_by_fork_and_one_by_one(make_engine):
    forked = run(make_engine(), request(n=3, temperature=1.0, seed=5))
    engine = make_engine("engine.max_sequences=1")  # no slot to fork into: the samples wait for one another
    assert {
        key: tokens(outputs) for key, outputs in run(engine, request(n=3, temperature=1.0, seed=5)).items()
    } == {key: tokens(outputs) for key, outputs in forked.items()}


def test_stop_tokens_min_tokens_and_ignore_eos(make_engine):
    engine = make_engine()
    plain = tokens(run(engine, request(ignore_eos=True, max_tokens=10))["r", 0])
    stop = plain[4]
    first = plain.index(stop)
    outputs = run(engine, request(ignore_eos=True, max_tokens=10, stop_token_ids=(stop,)))["r", 0]
    assert tokens(outputs) == plain[: first + 1]
    assert outputs[-1].finish_reason is FinishReason.STOP
    outputs = run(engine, request(ignore_eos=True, max_tokens=10, stop_token_ids=(stop,), min_tokens=8))[
        "r", 0
    ]
    assert stop not in tokens(outputs)[:7]
    assert len(tokens(outputs)) >= 8


def test_a_forced_length_overrides_every_ending(make_engine):
    asked = Request(
        id="r",
        prompt_token_ids=PROMPT,
        sampling=SamplingParams(temperature=0.0, max_tokens=50, stop_token_ids=tuple(range(VOCABULARY))),
        forced_output_tokens=17,
    )
    outputs = run(make_engine(), asked)["r", 0]
    assert len(tokens(outputs)) == 17
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_what_can_never_fit_is_refused_with_the_numbers_and_the_others_go_on(make_engine):
    engine = make_engine()
    with pytest.raises(
        RequestRefused, match=r"'long': prompt of 500 and output of 100 tokens make 600, more than 512"
    ):
        engine.add(request("long", prompt=[3] * 500, max_tokens=100))
    small = make_engine("engine.block_size=16", "engine.kv_bytes=36864")
    with pytest.raises(RequestRefused, match=r"'kv': .*more than 48: all of KV memory"):
        small.add(request("kv", max_tokens=60))
    with pytest.raises(RequestRefused, match=r"token id 128 is outside the vocabulary: 0 to 127"):
        engine.add(request("vocabulary", prompt=[5, VOCABULARY]))
    with pytest.raises(RequestRefused, match=r"'bias'.*logit_bias"):
        engine.add(request("bias", logit_bias={VOCABULARY: 1.0}))
    assert len(tokens(run(engine, request("fine"))["fine", 0])) == 12
    engine.add(request("twice"))
    with pytest.raises(RequestRefused, match="'twice'"):
        engine.add(request("twice"))


def test_abort_ends_every_sample_and_frees_its_memory(make_engine):
    engine = make_engine()
    engine.add(request("gone", n=3, temperature=1.0, max_tokens=200))
    engine.add(request("stays", max_tokens=30))
    for _ in range(5):
        engine.step()
    assert engine.abort("gone")
    assert not engine.abort("gone")
    ended = {}
    made = 0
    while engine.has_work:
        for output in engine.step():
            made += len(output.token_ids) * (output.request_id == "stays")
            if output.finish_reason is not None:
                ended[output.request_id, output.index] = output.finish_reason
    engine.allocator.check_integrity()
    assert ended == {("gone", i): FinishReason.ABORT for i in range(3)} | {("stays", 0): FinishReason.LENGTH}
    assert engine.allocator.stats().used == 0


def test_logits_that_are_not_finite_fail_their_sequence_by_name_and_no_other(make_engine, monkeypatch):
    from quire.runtime.token_draw import TokenDraw

    healthy = tokens(run(make_engine(), request("healthy"))["healthy", 0])
    engine = make_engine()
    draw = TokenDraw.tokens

    def poisoned(self, rows, logits_RV, *rest):
        for r, row in enumerate(rows):
            if row.sequence_id == "sick" and row.start >= 33:
                logits_RV[r, 5] = float("nan")
        return draw(self, rows, logits_RV, *rest)

    monkeypatch.setattr(TokenDraw, "tokens", poisoned)
    news = run(engine, request("sick"), request("healthy"))
    assert news["sick", 0][-1].finish_reason is FinishReason.ERROR
    assert "sick" in news["sick", 0][-1].error
    assert "not finite" in news["sick", 0][-1].error
    assert tokens(news["healthy", 0]) == healthy


def test_a_step_that_breaks_fails_its_sequences_and_the_engine_goes_on(make_engine, monkeypatch):
    from quire.runtime.runner import Runner

    engine = make_engine("engine.overlap=false")
    compute = Runner.run

    def breaks(self, plan):
        if plan.index == 3:
            raise RuntimeError("out of memory")
        return compute(self, plan)

    monkeypatch.setattr(Runner, "run", breaks)
    news = run(engine, request("first"))
    assert news["first", 0][-1].error == "step 3 failed: RuntimeError: out of memory"
    assert len(tokens(run(engine, request("second"))["second", 0])) == 12


def test_processors_see_only_the_rows_that_want_them(make_engine):
    engine = make_engine()
    plain = tokens(run(engine, request("plain"))["plain", 0])
    banned = plain[0]
    news = run(
        engine,
        request("plain"),
        request("banned", bad_token_ids=(banned,)),
        request("only", allowed_token_ids=(7,)),
    )
    assert tokens(news["plain", 0]) == plain
    assert banned not in tokens(news["banned", 0])
    assert set(tokens(news["only", 0])) == {7}
