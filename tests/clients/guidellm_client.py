"""guidellm: every request succeeds, with as many tokens as were asked for."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from checks import Facts, equal, main, run

REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 24, 40, 20


def benchmark(facts: Facts, route: str, profile: str) -> None:
    report = Path(facts.directory) / f"{route.strip('/').replace('/', '-')}-{profile.partition(',')[0]}.json"
    command = [str(Path(sys.executable).parent / "guidellm"), "run", "--disable-console"]
    command += [
        "--backend",
        f"kind=openai_http,target={facts.url},model={facts.model},request_format={route}",
    ]
    command += ["--profile", f"kind={profile}", "--constraint", f"kind=max_requests,count={REQUESTS}"]
    command += ["--tokenizer", f"kind=huggingface_auto,model={facts.model_directory}"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}"]
    command += ["--output", f"kind=json,path={report}"]
    run(*command, cwd=facts.directory)
    (measured,) = json.loads(report.read_text())["benchmarks"]
    totals = measured["metrics"]["request_totals"]
    equal((totals["successful"], totals["errored"], totals["incomplete"]), (REQUESTS, 0, 0))
    for request in measured["requests"]["successful"]:
        equal(request["output_metrics"]["text_tokens"], OUTPUT_TOKENS)
        assert request["time_to_first_token_ms"] > 0


if __name__ == "__main__":
    main(
        "guidellm",
        {
            "chat, one after the other": partial(
                benchmark, route="/v1/chat/completions", profile="synchronous"
            ),
            "chat, 8 streams": partial(
                benchmark, route="/v1/chat/completions", profile="concurrent,streams=8"
            ),
            "completions, throughput": partial(
                benchmark, route="/v1/completions", profile="throughput,max_concurrency=16"
            ),
            "responses, 8 streams": partial(benchmark, route="/v1/responses", profile="concurrent,streams=8"),
        },
    )
