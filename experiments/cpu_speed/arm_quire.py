"""One arm: quire, in bf16, with whatever is said on its command line."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arm import Serve, run_arm


class Arm:
    """An engine, and the profile of what it served last."""

    def load(self, arguments: argparse.Namespace) -> Serve:
        from quire.config.compose import compose
        from quire.registry import load_registry
        from quire.run import Run

        registry = load_registry()
        fixed = [f"model={arguments.model}", "dtype=bfloat16", "engine.profile=true"]
        config = compose([*fixed, *arguments.overrides], registry)
        run = Run(config=config, registry=registry, directory=Path(tempfile.gettempdir()))
        self.engine = run.engine(with_text=False)
        return self.serve

    def serve(self, requests: list[dict]) -> Iterator[tuple[int, int]]:
        from quire.engine.request import Request, SamplingParams

        self.engine.profile.reset()
        for index, request in enumerate(requests):
            self.engine.add(
                Request(
                    id=str(index),
                    prompt_token_ids=tuple(request["prompt"]),
                    sampling=SamplingParams(temperature=0.0, max_tokens=request["output_tokens"]),
                    forced_output_tokens=request["output_tokens"],
                )
            )
        while self.engine.has_work:
            for output in self.engine.step():
                yield int(output.request_id), len(output.token_ids)
            self.engine.take_records()

    def describe(self) -> dict:
        """Where the time of the workload went."""
        from quire.metrics.phases import report_phases

        return {"profile": report_phases(self.engine.profile).to_dict()}


if __name__ == "__main__":
    arm = Arm()
    run_arm(arm.load, describe=arm.describe)
