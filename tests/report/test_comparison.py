"""Comparisons: known effects found, no effect where there is none, and refusals that name what differs."""

import json

import pytest
from recordings import sample, served, write_run

from quire.errors import UserError
from quire.report.comparison import Comparison
from quire.report.study import load_study


def two_arms(path, *, slower, seeds=5, **config):
    for seed in range(seeds):
        write_run(path / str(2 * seed), served(seed), seed=seed, scheduler="fcfs", **config)
        write_run(
            path / str(2 * seed + 1), served(seed, slower=slower), seed=seed, scheduler="mine", **config
        )
    return path


def rows(found: Comparison):
    return {(row.metric, row.at): row for row in found.rows}


def test_a_known_effect_is_found_with_its_size(tmp_path):
    (found,) = load_study(two_arms(tmp_path / "m", slower=0.88)).comparisons
    assert (found.baseline, found.arm, found.seeds) == ("fcfs", "mine", (0, 1, 2, 3, 4))
    for name in (("ttft_s", "mean"), ("ttft_s", "p99"), ("itl_s", "p99"), ("e2e_s", "mean")):
        interval = rows(found)[name].interval
        assert interval.change == pytest.approx(-0.12, abs=1e-9)
        assert interval.low == pytest.approx(-0.12, abs=1e-9), "every pair differs by just that"
        assert rows(found)[name].better == 1.0
    assert "lowers mean E2E by 12% [12, 12]" in found.sentence


def test_values_are_means_over_seeds_of_what_came_after_the_warm_up(tmp_path):
    path = two_arms(tmp_path / "m", slower=1.5, seeds=2)
    (found,) = load_study(path, warmup=0.5).comparisons
    means = []
    pairs = 0
    for seed in range(2):
        requests = served(seed)
        times = [each.arrival for each in requests]
        kept = [r for r in requests if r.arrival >= times[0] + 0.5 * (times[-1] - times[0])]
        means.append(sum(r.token_times[0] - r.arrival for r in kept) / len(kept))
        pairs += len(kept)
    assert rows(found)["ttft_s", "mean"].baseline == pytest.approx(sum(means) / 2)
    assert rows(found)["ttft_s", "mean"].arm == pytest.approx(1.5 * sum(means) / 2)
    assert found.pairs == pairs


def test_two_runs_of_the_same_policy_show_no_difference(tmp_path):
    """The negative control: arms that differ by chance alone."""
    for seed in range(5):
        write_run(tmp_path / f"a{seed}", served(seed), seed=seed, scheduler="one")
        other = served(seed + 100)
        for mine, theirs in zip(other, served(seed), strict=True):
            mine.num_prompt_tokens = theirs.num_prompt_tokens
        write_run(tmp_path / f"b{seed}", other, seed=seed, scheduler="two")
    (found,) = load_study(tmp_path).comparisons
    assert found.sentence.endswith("no difference shown")
    assert not any(row.interval.excludes_zero for row in found.rows if row.at != "run")


def test_only_requests_that_both_completed_are_paired(tmp_path):
    write_run(tmp_path / "a", [sample(i, arrival=i) for i in range(10)], scheduler="one")
    broken = [sample(i, arrival=i, finish_reason="error" if i in (3, 4) else "length") for i in range(10)]
    write_run(tmp_path / "b", broken, scheduler="two")
    (found,) = load_study(tmp_path, warmup=0.0).comparisons
    assert (found.pairs, found.left_out) == (8, 2)
    assert "one seed: intervals cover its requests, not other seeds" in found.sentence


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model=demo and other"),
        ({"engine": {"max_sequences": 8}}, r"engine\.max_sequences=64 and 8"),
        ({"workload": {"rate": 8.0}}, r"workload\.rate=4\.0 and 8\.0"),
    ],
)
def test_runs_that_differ_in_more_than_the_arm_are_refused_and_the_difference_named(tmp_path, change, named):
    write_run(tmp_path / "a", served(1), scheduler="fcfs")
    write_run(tmp_path / "b", served(1), scheduler="mine", **change)
    with pytest.raises(UserError, match=rf"a \(fcfs\) and b \(mine\) cannot be compared: .*{named}\. Run"):
        load_study(tmp_path)


def test_a_key_may_be_declared_to_be_the_arm(tmp_path):
    write_run(tmp_path / "a", served(1), engine={"max_sequences": 64})
    write_run(tmp_path / "b", served(1), engine={"max_sequences": 8})
    study = load_study(tmp_path, arm_keys=("engine.max_sequences",))
    assert study.arms == ["max_sequences=64", "max_sequences=8"]
    assert len(study.comparisons) == 1


def test_other_prompts_under_the_same_name_are_refused(tmp_path):
    write_run(tmp_path / "a", served(1), scheduler="fcfs")
    write_run(tmp_path / "b", served(2), scheduler="mine")
    with pytest.raises(UserError, match=r"request 'r0' has \d+ prompt tokens in one and \d+ in the other"):
        load_study(tmp_path)


def test_arms_are_called_by_what_differs_and_rates_are_conditions(tmp_path):
    place = 0
    for rate in (2.0, 4.0):
        for scheduler, options in (("fcfs", {}), ("sarathi", {"chunk": 64}), ("sarathi", {"chunk": 128})):
            config = {"workload": {"rate": rate}, "options": options}
            write_run(tmp_path / str(place), served(1), scheduler=scheduler, **config)
            place += 1
    study = load_study(tmp_path, baseline="fcfs")
    assert study.arms == ["fcfs", "sarathi chunk=64", "sarathi chunk=128"]
    assert study.conditions == ["workload.rate=2", "workload.rate=4"]
    assert len(study.comparisons) == 4
    with pytest.raises(UserError, match=r"--baseline fcf: must be one of .*did you mean 'fcfs'"):
        load_study(tmp_path, baseline="fcf")


def test_the_same_cell_twice_is_refused(tmp_path):
    write_run(tmp_path / "a", served(1))
    write_run(tmp_path / "b", served(1))
    with pytest.raises(UserError, match="a and b are the same: fcfs, seed 1"):
        load_study(tmp_path)


def test_an_unstable_arm_is_marked(tmp_path):
    def queueing(seconds):
        ends = [seconds * (i + 1) for i in range(60)]
        return [
            sample(
                i,
                arrival=float(i),
                first_scheduled=max(i, e - seconds),
                token_times=[max(e, i + seconds)],
                finish=max(e, i + seconds),
            )
            for i, e in enumerate(ends)
        ]

    write_run(tmp_path / "a", queueing(0.5), scheduler="fast")
    write_run(tmp_path / "b", queueing(2.0), scheduler="slow")
    (found,) = load_study(tmp_path).comparisons
    assert found.unstable == ("slow",)
    assert "slow is unstable: its queue grows" in found.sentence


def test_comparisons_are_the_same_every_time(tmp_path):
    path = two_arms(tmp_path / "m", slower=0.95, seeds=2)
    first, second = (json.dumps([repr(each) for each in load_study(path).comparisons]) for _ in range(2))
    assert first == second
