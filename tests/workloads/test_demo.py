"""The demo workload: real text, answers that are known, prefixes that are shared."""

from collections import Counter

import pytest

from quire.errors import UserError
from quire.interfaces.workload import WorkloadContext
from quire_plugins.workloads.demo import DemoConfig, DemoWorkload


class Bytes:
    """A tokenizer whose tokens are the bytes of the text."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def make(*, seed=0, **options):
    workload = DemoWorkload(config=DemoConfig(**options))
    context = WorkloadContext(seed=seed, vocab_size=256, max_model_tokens=2048, tokenizer=Bytes())
    return workload, list(workload.requests(context))


def text(request) -> str:
    return bytes(request.prompt_token_ids).decode()


def test_requests_arrive_over_time_and_are_greedy():
    workload, made = make(requests=200, rate=10.0)
    assert len(made) == len(workload) == 200
    times = [r.arrival_time for r in made]
    assert 15 < times[-1] < 25  # mean 20, standard deviation 1.4
    assert {r.sampling.temperature for r in made} == {0.0}


def test_every_kind_is_there():
    made = make(requests=64)[1]
    assert [r.id for r in made[:3]] == ["story-0", "recall-1", "copy-2"]
    kinds = Counter(r.id.split("-")[0] for r in made)
    assert kinds == {"recall": 12, "copy": 12, "arithmetic": 12, "json": 12, "story": 16}


def test_prompts_share_prefixes():
    prompts = [text(r) for r in make(requests=64)[1]]
    heads = Counter(prompt[:100] for prompt in prompts if prompt.startswith("Example: "))
    assert heads.most_common(1)[0][1] >= 3


def test_the_answer_of_a_task_is_known_and_of_a_story_is_not():
    workload, made = make(requests=64)
    sums = [r for r in made if r.id.startswith("arithmetic") and " + " in text(r).split("Question: ")[1]]
    assert sums
    for request in sums:
        a, b = text(request).split("Question: What is ")[1].split("?")[0].split(" + ")
        assert workload.solved(request.id, f" {int(a) + int(b)}\n") is True
        assert workload.solved(request.id, f"{int(a) + int(b)}1") is False
    story = next(r for r in made if r.id.startswith("story"))
    assert text(story).endswith(".")
    assert workload.solved(story.id, "anything") is None


@pytest.mark.parametrize("options", [{"requests": 0}, {"rate": 0.0}, {"max_tokens": 0}])
def test_bad_options_are_named(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"workload\.{name}="):
        DemoConfig(**options)
