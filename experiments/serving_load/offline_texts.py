"""What the engine generates by itself: reads requests from its input, as a JSON list of prompts (token ids)
and output lengths, and writes the list of their texts. Arguments are overrides, as on the command line.
"""

from __future__ import annotations

import json
import sys

from quire import LLM, SamplingParams


def main() -> None:
    requests: list[tuple[list[int], int]] = json.load(sys.stdin)
    texts = [""] * len(requests)
    with LLM("demo", sys.argv[1:]) as llm:
        for length in sorted({length for _, length in requests}):
            chosen = [index for index, (_, each) in enumerate(requests) if each == length]
            sampling = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
            answers = llm.generate([requests[index][0] for index in chosen], sampling)
            for index, answer in zip(chosen, answers, strict=True):
                texts[index] = answer.samples[0].text
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
