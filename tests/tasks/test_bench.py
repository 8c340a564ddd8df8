"""The bench task: what it writes against the records themselves, what it shows, what an interrupt keeps."""

import json

import numpy as np
import pytest
from scripted import ScriptedRun

from quire.engine.config import EngineConfig
from quire.engine.request import Request
from quire.engine.sequence import FinishReason
from quire.errors import UserError
from quire.jobs.completions import Completion, Sample
from quire_plugins.schedulers.vtc import VtcConfig
from quire_plugins.tasks.bench import BenchConfig, Findings
from quire_plugins.workloads.demo import DemoConfig
from quire_plugins.workloads.synthetic import SyntheticConfig


def synthetic(**options) -> SyntheticConfig:
    """20 requests at 20 a second."""
    sizes = {"requests": 20, "rate": 20.0, "prompt_mean": 40.0, "output_mean": 20.0, "output_cap": 60}
    return SyntheticConfig(**(sizes | options))


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_summary_is_what_the_records_come_to(tmp_path):
    ScriptedRun(tmp_path, workload=synthetic()).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    requests, steps = lines(tmp_path / "requests.jsonl"), lines(tmp_path / "steps.jsonl")
    assert (summary["interrupted"], summary["error"]) == (False, None)
    assert summary["requests"] == summary["completed"] == len(requests) == 20
    assert summary["steps"] == len(steps)
    first = [r["token_times"][0] - r["arrival"] for r in requests]
    gaps = np.concatenate([np.diff(r["token_times"]) for r in requests])
    assert summary["ttft_s"]["p90"] == pytest.approx(np.percentile(first, 90))
    assert summary["itl_s"]["p99"] == pytest.approx(np.percentile(gaps, 99))
    out = sum(len(r["token_times"]) for r in requests)
    span = max(r["finish"] for r in requests) - min(r["arrival"] for r in requests)
    assert summary["output_tokens"] == out
    assert summary["output_tokens_per_s"] == pytest.approx(out / span)
    assert summary["kv_use"]["max"] == max(step["kv_used"] / step["kv_total"] for step in steps)
    assert sum(step["num_tokens"] for step in steps) == sum(r["num_computed_tokens"] for r in requests)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["config"]["workload"]["requests"] == 20


def test_requests_arrive_over_time(tmp_path):
    ScriptedRun(tmp_path, workload=synthetic()).do()
    arrivals = sorted(r["arrival"] for r in lines(tmp_path / "requests.jsonl"))
    assert 0.5 < arrivals[-1] - arrivals[0] < 2.0  # 20 at 20 a second
    for record in lines(tmp_path / "requests.jsonl"):
        assert record["arrival"] <= record["first_scheduled"] < record["token_times"][0] <= record["finish"]


def test_preemptions_and_recomputed_tokens_are_reported(tmp_path):
    shown = ScriptedRun(tmp_path, workload=synthetic(rate=None), blocks=16).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["completed"] == 20
    assert summary["preemptions"] > 0
    assert summary["recomputed_tokens"] > 0
    assert "recomputed tokens" in shown


def test_the_warm_up_is_not_measured(tmp_path):
    ScriptedRun(tmp_path / "warm", workload=synthetic()).do()
    ScriptedRun(tmp_path / "cold", workload=synthetic(), task=BenchConfig(warmup=False)).do()
    warm, cold = (lines(tmp_path / name / "steps.jsonl") for name in ("warm", "cold"))
    assert len(warm) == len(cold)
    assert warm[0]["index"] > cold[0]["index"] == 0
    assert {r["tenant"] for r in lines(tmp_path / "warm" / "requests.jsonl")} == {"default"}


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(tmp_path):
    shown = ScriptedRun(tmp_path, workload=synthetic()).do()
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "serving: 20/20 requests" in shown
    for label in ("TTFT ms", "TPOT ms", "ITL ms", "preemptions", "prefix hit rate", "peak KV use"):
        assert label in shown
    assert f"results are in {tmp_path}" in shown.replace("\n", "")


def test_on_a_terminal_there_is_a_bar(tmp_path):
    shown = ScriptedRun(tmp_path, workload=synthetic(), terminal=True).do()
    assert "━" in shown
    assert "20/20" in shown
    assert "serving: 20/20" not in shown


def test_an_interrupt_keeps_the_results_so_far(tmp_path):
    run = ScriptedRun(tmp_path, workload=synthetic(), interrupt_at=60)
    with pytest.raises(KeyboardInterrupt):
        run.do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    requests = lines(tmp_path / "requests.jsonl")
    assert summary["interrupted"] is True
    assert 0 < summary["completed"] == len(requests) < 20
    assert summary["steps"] == len(lines(tmp_path / "steps.jsonl"))
    assert "results until the interrupt" in run.screen.getvalue()


def test_an_interrupt_before_anything_ended_leaves_a_summary_too(tmp_path):
    run = ScriptedRun(tmp_path, workload=synthetic(), task=BenchConfig(warmup=False), interrupt_at=0)
    with pytest.raises(KeyboardInterrupt):
        run.do()
    assert json.loads((tmp_path / "summary.json").read_text())["completed"] == 0


def test_refused_requests_are_counted_and_the_first_reason_shown(tmp_path):
    workload = synthetic(tenants={"known": {}, "unknown": {}})
    shown = ScriptedRun(tmp_path, workload=workload, scheduler=VtcConfig(weights={"known": 1.0})).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["failed"] > 0
    assert summary["completed"] == 20 - summary["failed"] > 0
    assert "first failure: request '" in shown
    assert "tenant='unknown': has no weight" in shown.replace("\n", " ")


def test_demo_requests_that_never_fit_are_left_out_and_counted(tmp_path):
    ScriptedRun(tmp_path, workload=DemoConfig(requests=20, max_tokens=4), blocks=9).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["failed"] == 0
    assert summary["completed"] == 20 - summary["workload"]["left_out_as_too_long"] < 20


def test_text_is_shown_and_answers_are_scored(tmp_path):
    shown = ScriptedRun(tmp_path, workload=DemoConfig(requests=8, max_tokens=4), blocks=512).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["answers_right"], summary["answers_known"], summary["accuracy"]) == (0, 6, 0.0)
    assert "what was generated" in shown
    assert "answers right" in shown


def test_accuracy_counts_only_samples_that_ended_and_have_an_answer():
    class Workload:
        def solved(self, request_id, text):
            return None if request_id == "story" else text == "yes"

    def ended(id: str, text: str, error: str | None = None) -> Completion:
        reason = FinishReason.STOP if error is None else FinishReason.ERROR
        return Completion(
            request=Request(id=id, prompt_token_ids=(1,)),
            samples=(Sample(text=text, finish_reason=reason, error=error),),
        )

    findings = Findings(workload=Workload(), shown=2)
    assert findings.scores() == {}
    findings.add([ended("a", "yes"), ended("b", "no"), ended("story", "once")])
    findings.add([ended("c", "yes"), ended("d", "", error="broken"), ended("e", "yes", error="again")])
    assert findings.scores() == {"answers_right": 2, "answers_known": 3, "accuracy": pytest.approx(2 / 3)}
    assert findings.first_error == "broken"
    assert [completion.request.id for completion in findings.first] == ["a", "b"]
    assert findings.ended == 6


def test_bad_options_are_named():
    with pytest.raises(UserError, match=r"task\.show=-1: must be at least 0"):
        BenchConfig(show=-1)


@pytest.mark.parametrize("profile", [False, True])
def test_a_profiled_run_shows_its_phases_and_leaves_a_trace(tmp_path, profile):
    shown = ScriptedRun(tmp_path, workload=synthetic(), engine=EngineConfig(profile=profile)).do()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert ("outside the model" in shown) is profile
    assert ("profile" in summary) is profile
    assert (tmp_path / "trace.json").exists() is profile
    if not profile:
        return
    steps = lines(tmp_path / "steps.jsonl")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    forward = [event for event in events if event["name"] == "forward"]
    assert summary["profile"]["steps"] == len(steps) == len(forward)  # the warm-up is not part of it
    for step, event in zip(steps, forward, strict=True):
        assert event["dur"] == pytest.approx(step["seconds"] * 1e6)
        assert event["args"]["tokens"] == step["num_tokens"]
    # Time passes on the virtual clock only while steps are computed, or nothing is to be done.
    assert summary["profile"]["model"] == pytest.approx(1.0)
    assert summary["profile"]["seconds"] == pytest.approx(sum(step["seconds"] for step in steps))
