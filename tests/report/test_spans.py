"""The spans of a request, and the records that they come from, made by an engine."""

from recordings import sample

from quire.report.spans import Span, spans_of


def test_a_request_waits_computes_its_prompt_and_speaks():
    record = sample(arrival=1.0, ttft=0.5, gaps=(0.25,))
    assert spans_of(record) == [
        Span("queued", 1.0, 1.25),
        Span("prefill", 1.25, 1.5),
        Span("decode", 1.5, 1.75),
    ]


def test_a_preempted_request_computes_again_what_it_lost():
    record = sample(
        arrival=0.0,
        token_times=[1.0, 2.0, 6.0],
        first_scheduled=0.5,
        preempted=[3.0],
        resumed=[4.0],
        finish=6.0,
    )
    assert spans_of(record) == [
        Span("queued", 0.0, 0.5),
        Span("prefill", 0.5, 1.0),
        Span("decode", 1.0, 3.0),
        Span("preempted", 3.0, 4.0),
        Span("prefill", 4.0, 6.0),
    ]


def test_preempted_before_the_first_token_and_never_resumed():
    record = sample(
        arrival=0.0, token_times=[], first_scheduled=0.5, preempted=[1.0], finish=3.0, finish_reason="abort"
    )
    assert spans_of(record) == [
        Span("queued", 0.0, 0.5),
        Span("prefill", 0.5, 1.0),
        Span("preempted", 1.0, 3.0),
    ]


def test_refused_on_arrival_has_no_span_and_waiting_in_vain_is_queued():
    refused = sample(arrival=1.0, token_times=[], first_scheduled=None, finish=1.0, finish_reason="error")
    assert spans_of(refused) == []
    aborted = sample(arrival=1.0, token_times=[], first_scheduled=None, finish=4.0, finish_reason="abort")
    assert spans_of(aborted) == [Span("queued", 1.0, 4.0)]
