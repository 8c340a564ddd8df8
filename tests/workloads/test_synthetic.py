"""The synthetic workload: the same bytes for a seed, lengths and arrivals as configured."""

import hashlib

import pytest

from quire.errors import UserError
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.synthetic import SyntheticConfig, SyntheticWorkload

GOLDEN = "0096afdd87e8e2d6"


def requests(*, seed=0, vocab_size=1000, max_model_tokens=2048, **options) -> list:
    workload = SyntheticWorkload(config=SyntheticConfig(**options))
    context = WorkloadContext(
        seed=seed, vocab_size=vocab_size, max_model_tokens=max_model_tokens, tokenizer=None
    )
    made = list(workload.requests(context))
    assert len(made) == len(workload)
    return made


def digest(made) -> str:
    """Of all that a workload decides."""
    fields = [
        (r.id, r.prompt_token_ids, r.arrival_time, r.forced_output_tokens, r.sampling.max_tokens, r.tenant)
        for r in made
    ]
    return hashlib.sha256(repr(fields).encode()).hexdigest()[:16]


def test_a_seed_gives_the_same_bytes_in_every_process():
    assert digest(requests(requests=50, rate=3.0, shared_prefix=8)) == GOLDEN
    assert digest(requests(requests=50, rate=3.0, shared_prefix=8, seed=1)) != GOLDEN


def test_lengths_and_arrivals_are_drawn_apart():
    """A comparison that changes one leaves the other as it was."""
    one = requests(rate=3.0, output_mean=50)
    other = requests(rate=6.0, output_mean=100)
    assert [r.prompt_token_ids for r in one] == [r.prompt_token_ids for r in other]
    assert [r.arrival_time for r in one] == pytest.approx([2 * r.arrival_time for r in other], abs=1e-5)
    assert [r.forced_output_tokens for r in one] != [r.forced_output_tokens for r in other]


def test_no_rate_means_all_at_once():
    assert {r.arrival_time for r in requests()} == {0.0}


def test_outputs_are_forced_and_their_lengths_hidden_behind_the_cap():
    made = requests(output_cap=300)
    assert {r.sampling.max_tokens for r in made} == {300}
    assert len({r.forced_output_tokens for r in made}) > 20
    assert all(1 <= r.forced_output_tokens <= 300 for r in made)
    assert {r.sampling.temperature for r in made} == {0.0}
    assert all(r.sampling.ignore_eos for r in made)


def test_a_shared_prefix_begins_every_prompt_and_nothing_else_is_shared():
    made = requests(shared_prefix=16, prompt_mean=20.0)
    assert len({r.prompt_token_ids[:16] for r in made}) == 1
    assert len({r.prompt_token_ids[16:] for r in made}) > 50
    assert all(len(r.prompt_token_ids) > 16 for r in made)


def test_everything_fits_into_the_longest_sequence_by_default():
    made = requests(max_model_tokens=100)
    assert max(len(r.prompt_token_ids) for r in made) == 50
    assert {r.sampling.max_tokens for r in made} == {50}
    made = requests(max_model_tokens=100, output_cap=20)
    assert max(len(r.prompt_token_ids) for r in made) == 80
    made = requests(max_model_tokens=100, prompt_cap=30)
    assert {r.sampling.max_tokens for r in made} == {70}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requests": 0}, r"workload\.requests=0: must be at least 1"),
        ({"rate": 0.0}, r"workload\.rate=0\.0: must be more than 0"),
        ({"prompt_mean": 0.5}, r"workload\.prompt_mean=0\.5"),
        ({"output_sigma": -1.0}, r"workload\.output_sigma=-1\.0"),
        ({"output_cap": 0}, r"workload\.output_cap=0"),
        ({"shared_prefix": -1}, r"workload\.shared_prefix=-1"),
        ({"prompt_cap": 1000, "output_cap": 1049}, r"prompt_cap=1000 and workload\.output_cap=1049: .* 2048"),
        ({"output_cap": 2048}, r"prompt_cap=None and workload\.output_cap=2048: .* at most 2048"),
        ({"shared_prefix": 1024}, r"shared_prefix=1024: must be less than the longest prompt, 1024"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        requests(**options)
