"""Pieces of interleaved samples come together as they were."""

import pytest

from quire.engine.outputs import SequenceOutput
from quire.engine.plan import TokenLogprobs
from quire.engine.request import Request, SamplingParams
from quire.engine.sequence import FinishReason
from quire.jobs.completions import Completions


def request(id: str, n: int = 1) -> Request:
    return Request(id=id, prompt_token_ids=(1,), sampling=SamplingParams(n=n))


def piece(id: str, token: int, *, index=0, end: FinishReason | None = None, **fields) -> SequenceOutput:
    return SequenceOutput(
        request_id=id, index=index, token_ids=(token,), text=chr(token), finish_reason=end, **fields
    )


def logprob(token: int) -> TokenLogprobs:
    return TokenLogprobs(token_id=token, logprob=-1.0, rank=1, top=())


def watched(*requests: Request) -> Completions:
    completions = Completions()
    assert list(completions.watch(requests)) == list(requests)
    return completions


def test_a_request_is_whole_when_its_last_sample_ended():
    completions = watched(request("a", n=2), request("b"))
    assert completions.take([piece("a", 65), piece("b", 66), piece("a", 67, index=1)]) == []
    (b,) = completions.take([piece("b", 68, end=FinishReason.STOP), piece("a", 69, end=FinishReason.LENGTH)])
    assert (b.request.id, b.samples[0].text, b.samples[0].token_ids) == ("b", "BD", [66, 68])
    (a,) = completions.take([piece("a", 70, index=1, end=FinishReason.STOP)])
    assert [sample.text for sample in a.samples] == ["AE", "CF"]
    assert [sample.finish_reason for sample in a.samples] == [FinishReason.LENGTH, FinishReason.STOP]
    assert a.error is None


def test_logprobs_are_gathered_and_those_of_the_prompt_kept():
    completions = watched(request("a"))
    completions.take([piece("a", 65, logprobs=(logprob(65),), prompt_logprobs=(logprob(1),))])
    (whole,) = completions.take([piece("a", 66, logprobs=(logprob(66),), end=FinishReason.STOP)])
    assert whole.samples[0].logprobs == [logprob(65), logprob(66)]
    assert whole.samples[0].prompt_logprobs == (logprob(1),)


def test_one_failed_sample_is_the_requests_error():
    completions = watched(request("a", n=2))
    completions.take([piece("a", 65, end=FinishReason.STOP)])
    (whole,) = completions.take([piece("a", 66, index=1, end=FinishReason.ERROR, error="broken")])
    assert whole.error == "broken"


def test_what_is_whole_is_forgotten():
    completions = watched(request("a"))
    completions.take([piece("a", 65, end=FinishReason.STOP)])
    with pytest.raises(KeyError):
        completions.take([piece("a", 65)])
