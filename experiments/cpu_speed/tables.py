"""The tables of README.md, made from the recorded results, so that no number is typed.

python experiments/cpu_speed/tables.py            # writes them where README.md marks their places
python experiments/cpu_speed/tables.py --check    # says whether they are what the results give
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from results import spread

from quire.report.marked_page import main

HERE = Path(__file__).parent
ACCURACY = HERE.parent / "quantization" / "results.json"
CONFIGURATIONS = {"quire bf16": "quantization=none", "quire w8a8": "quantization=w8a8"}
"""By arm: what the study of quantization calls it."""
STEP_GOALS = {("135m", 1): 0.7, ("0.6b", 1): 0.85}
"""At most so many of vLLM's milliseconds a decode step, by model and batch; others: OTHER_STEPS."""
OTHER_STEPS = 0.75
CURVES = (
    ("sequences", "decode_tokens_per_second", "sequences at once, decode tokens/s"),
    ("context", "decode_tokens_per_second", "tokens of context, decode tokens/s"),
    ("context", "prefill_tokens_per_second", "tokens of context, prompt tokens/s"),
    ("waiting", "engine_us", "requests that wait, us of the engine's thread a step"),
    ("waiting", "schedule_us", "requests that wait, us of scheduling a step"),
    ("waiting", "tokens_per_second", "requests that wait, decode tokens/s of a tiny model"),
)


def throughput(report: dict) -> str:
    """An arm a line: speed, start, memory, what of quire's time was not the model's, and its accuracy."""
    runs = report["runs"]
    accuracy = accuracies()
    own = [name for name in runs if name.startswith("quire")]
    heads = ["arm", "output tokens/s", "prompt tokens/s", "s to first token", "peak MiB", "not the model"]
    exact = ["perplexity", "known answers", "KL to bf16"]
    rows = []
    for name, made in runs.items():
        profiles = [each["profile"]["exposed"] for each in made if "profile" in each]
        rows.append(
            [
                name,
                *(
                    spread([each[key] for each in made], digits)
                    for key, digits in (
                        ("tokens_per_second", 0),
                        ("prefill_tokens_per_second", 0),
                        ("start_to_first_token", 1),
                        ("peak_rss_mib", 0),
                    )
                ),
                f"{spread([100 * share for share in profiles])} %" if profiles else "",
                *(
                    spread(against, 2) if (against := report["ratios"][mine].get(name)) else ""
                    for mine in own
                ),
                *accuracy.get(name, [""] * len(exact)),
            ]
        )
    return table([*heads, *(f"{name} is x times" for name in own), *exact], rows) + source(report)


def accuracies() -> dict[str, list[str]]:
    """Of quire's arms, as the study of quantization found it: perplexity and known answers of the demo model,
    and the divergence of next tokens from those of bfloat16, nats a token, on a random model of this shape.
    """
    if not ACCURACY.exists():
        return {}
    rows = {row["configuration"]: row for row in json.loads(ACCURACY.read_text())["rows"]}
    return {
        arm: [
            f"{rows[configuration]['perplexity']:.2f}",
            f"{rows[configuration]['known_answers']:.1%}",
            f"{rows[configuration]['random_135m']['kl']:.5f}",
        ]
        for arm, configuration in CONFIGURATIONS.items()
    }


def steps(report: dict) -> str:
    """Three tables: steps in vLLM's milliseconds, long contexts, and memory."""
    arms = report["arms"]
    short = {name: arm for name, arm in arms.items() if "sequences" not in name and "vLLM" not in name}
    rows = []
    for name, arm in short.items():
        for batch, times in arm["batches"].items():
            goal = STEP_GOALS.get((name, int(batch)), OTHER_STEPS)
            against = report["ratios_to_vllm"].get(name, {}).get(batch)
            compared = ["", ""]
            if against is not None:
                step = between(against["decode_ms"], 2)
                compared = [between(against["prefill_ms"], 2), f"{step} (goal: {goal})"]
            own = [between(times["prefill_ms"], 0), between(times["decode_ms"])]
            rows.append([f"{name}, batch {batch}", *own, *compared])
    heads = ["", "prompts, ms", "decode step, ms", "prompts in vLLM's", "decode step in vLLM's"]
    made = [table(heads, rows)]
    long = {name: arm for name, arm in arms.items() if "sequences" in name}
    rows = [
        [
            name,
            between(times["prefill_ms"], 0),
            between(times["decode_ms"]),
            *(
                between(against["decode_ms"], 2) if (against := report[key].get(name, {}).get(batch)) else ""
                for key in ("ratios_to_sdpa", "ratios_to_vllm")
            ),
        ]
        for name, arm in long.items()
        for batch, times in arm["batches"].items()
    ]
    heads = ["long contexts", "prompts, ms", "step, ms", "in sdpa's (goal: 0.5)", "in vLLM's (goal: 1)"]
    made.append(table(heads, rows))
    rows = [
        [name, f"{arm['peak_rss_bytes'] / 1e6:,.0f}", f"{arm['peak_rss_bound_bytes'] / 1e6:,.0f}"]
        for name, arm in arms.items()
        if "peak_rss_bound_bytes" in arm
    ]
    made.append(table(["memory", "peak RSS, MB", "weights x 1.15 + KV + 600 MB"], rows))
    return "\n\n".join(each for each in made if each) + source(report)


def linears(report: dict) -> str:
    """A line for each number of rows: milliseconds in bf16, and the others in bf16's time."""
    made = []
    for model, times in report["models"].items():
        others = [kind for kind in times if kind != "bf16"]
        rows = [
            [
                count,
                f"{statistics.median(times['bf16'][count]):,.2f}",
                *(
                    spread([a / b for a, b in zip(times[kind][count], times["bf16"][count], strict=True)], 2)
                    for kind in others
                ),
            ]
            for count in times["bf16"]
        ]
        made.append(table([f"{model}, rows", "bf16, ms", *(f"{kind} in bf16's" for kind in others)], rows))
    return "\n\n".join(made) + source(report)


def growth(report: dict) -> str:
    """A curve a line, and what shows a cliff: the steepest fall or rise between neighbours."""
    lines = []
    for axis, key, title in CURVES:
        values = [point[key] for point in report[axis]]
        steps = [after / before for before, after in pairwise(values)]
        points = [f"{point[axis]:,}: {value:,.0f}" for point, value in zip(report[axis], values, strict=True)]
        lines.append([title, ", ".join(points), f"{min(steps):.2f} to {max(steps):.2f}"])
    return table(["", "medians", "from point to point, times"], lines) + source(report)


def between(summary: dict[str, float], digits: int = 1) -> str:
    """Median, and in brackets the least and the most."""
    return spread([summary["min"], summary["median"], summary["max"]], digits)


def table(heads: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown; nothing if there are no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines]) if lines else ""


def source(report: dict) -> str:
    machine = f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
    commit = "unknown" if report["commit"] is None else report["commit"][:12]
    return f"\n\n`{report['command']}`, commit {commit}, {machine}."


SECTIONS: dict[str, tuple[Path, Callable[[dict], str]]] = {
    "throughput": (HERE / "results.json", throughput),
    "steps": (HERE / "steps.json", steps),
    "linears": (HERE / "linears.json", linears),
    "growth": (HERE.parent / "cpu_growth" / "results.json", growth),
}


def parts() -> dict[str, str]:
    return {
        name: f"{make(json.loads(path.read_text())) if path.exists() else f'Not recorded: `{path.name}`.'}\n"
        for name, (path, make) in SECTIONS.items()
    }


if __name__ == "__main__":
    main(HERE / "README.md", parts, about=__doc__, command="python experiments/cpu_speed/tables.py")
