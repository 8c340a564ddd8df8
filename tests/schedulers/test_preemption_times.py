"""A request's record says when it was preempted and when it went on."""

from itertools import pairwise

import pytest
from serving import request, served

from quire.report.spans import spans_of
from quire_plugins.schedulers.fcfs import Fcfs, FcfsConfig


@pytest.mark.parametrize("overlap", [False, True])
def test_preemptions_have_their_times_and_spans_cover_the_request_without_gaps(overlap):
    requests = [request(f"r{i}", at=0.001 * i, prompt=16, output=40) for i in range(4)]
    came = served(Fcfs(config=FcfsConfig()), requests, blocks=24, overlap=overlap)
    assert came.preemptions > 0
    for record in came.records.values():
        assert len(record.preempted) == len(record.resumed) == record.num_preemptions
        moments = [t for pair in zip(record.preempted, record.resumed, strict=True) for t in pair]
        assert moments == sorted(moments)
        assert all(record.first_scheduled <= t <= record.finish for t in moments)
        spans = spans_of(record)
        assert spans[-1].end == record.finish
        assert all(a.end == b.start for a, b in pairwise(spans))
        lost = sum(span.end - span.start for span in spans if span.state == "preempted")
        assert lost == pytest.approx(
            sum(b - a for a, b in zip(record.preempted, record.resumed, strict=True))
        )
        for before, after in zip(record.preempted, record.resumed, strict=True):
            assert not any(before < t < after for t in record.token_times), "no token while it waits"
