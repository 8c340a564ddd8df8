"""Lengths by quantile knots: the knots are met, the copula correlates, and traces are matched."""

import csv
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from quire_plugins.workloads.draws import stream
from quire_plugins.workloads.lengths import JointLengths, quantile
from quire_plugins.workloads.trace_lengths import TRACES

_CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = next(
    (
        folder
        for folder in (_CHECKOUT / "shared" / "traces", _CHECKOUT.parent / "shared" / "traces")
        if folder.is_dir()
    ),
    None,
)
"""Where a developer keeps the public traces, within or beside the checkout; they are no part of it."""


def draw(lengths: JointLengths, count=40_000) -> np.ndarray:
    return np.array(list(islice(lengths.draw(stream(0, "lengths")), count)))


def test_a_quantile_is_read_off_between_knots():
    levels, knots = (0.0, 0.5, 1.0), (10.0, 20.0, 100.0)
    assert [quantile(levels, knots, u) for u in (0.0, 0.25, 0.5, 0.75, 1.0)] == [10, 15, 20, 60, 100]
    assert quantile(levels, (0.0, 0.0, 0.2), 0.9) == 1  # a request has at least one token


def test_lengths_keep_their_distributions_under_any_correlation():
    for correlation in (0.0, 0.7, -0.9):
        lengths = JointLengths(
            levels=(0.0, 1.0), prompt=(1.0, 1001.0), output=(1.0, 101.0), correlation=correlation
        )
        drawn = draw(lengths)
        assert drawn.mean(axis=0) == pytest.approx([501.0, 51.0], rel=0.01)
        # Spearman's rho of a Gaussian copula is 6 / pi asin(r / 2)
        assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(6 / np.pi * np.arcsin(correlation / 2), abs=0.015)


@pytest.mark.parametrize("name", TRACES)
def test_knots_rise_from_the_shortest_to_the_longest(name):
    trace = TRACES[name]
    assert len(trace.prompt) == len(trace.output) == len(trace.levels)
    for knots in (trace.levels, trace.prompt, trace.output):
        assert list(knots) == sorted(knots)


@pytest.mark.parametrize(
    ("name", "prompt", "output"),
    [
        ("azure_conv", (181, 1020, 2734, 4142), (41, 129, 424, 601)),
        ("azure_code", (75, 1469, 5188, 7436), (6, 13, 55, 251)),
        ("sharegpt", (29, 1730, 5696, 7434), (44, 415, 834, 998)),
        ("mooncake", (901, 6909, 27367, 85400), (10, 350, 597, 1119)),
    ],
)
def test_quantiles_of_the_traces_as_published_are_met(name, prompt, output):
    """p5, p50, p90 and p99 of each trace, within 3% (or half a token)."""
    drawn = draw(TRACES[name])
    for column, expected in zip(drawn.T, (prompt, output), strict=True):
        found = np.percentile(column, (5, 50, 90, 99))
        assert found == pytest.approx(expected, rel=0.03, abs=0.5), name


def recorded(name: str) -> tuple[list[int], list[int]]:
    assert SHARED is not None
    if name == "mooncake":
        lines = (SHARED / "mooncake_conversation.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [row["input_length"] for row in rows], [row["output_length"] for row in rows]
    file, prompt, output = {
        "azure_conv": ("azure_2023_conv.csv", "ContextTokens", "GeneratedTokens"),
        "azure_code": ("azure_2023_code.csv", "ContextTokens", "GeneratedTokens"),
        "sharegpt": ("sharegpt_8k_lengths.csv", "num_prefill_tokens", "num_decode_tokens"),
    }[name]
    with open(SHARED / file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [int(row[prompt]) for row in rows], [int(row[output]) for row in rows]


@pytest.mark.skipif(SHARED is None, reason="the public traces are not here")
@pytest.mark.parametrize("name", TRACES)
def test_drawn_lengths_match_the_trace_itself(name):
    levels = (5, 10, 25, 50, 75, 90, 95, 99)
    for column, column_of_trace in zip(draw(TRACES[name]).T, recorded(name), strict=True):
        expected = np.percentile(column_of_trace, levels)
        assert np.percentile(column, levels) == pytest.approx(expected, rel=0.03, abs=0.5), name
