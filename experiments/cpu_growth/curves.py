"""The picture of the growth curves."""

from __future__ import annotations

from pathlib import Path


def plot(report: dict, path: Path) -> None:
    """Three curves side by side, medians with the least and the most of the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (sequences, context, waiting) = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    draw(sequences, report["sequences"], "sequences", ["decode_tokens_per_second"])
    sequences.set(xlabel="sequences at once", ylabel="tokens/s", title="64 tokens of context each")
    draw(context, report["context"], "context", ["decode_tokens_per_second", "prefill_tokens_per_second"])
    context.set(
        xlabel="tokens of context",
        ylabel="tokens/s",
        title=f"{report['context_sequences']} sequences at once",
    )
    context.legend(["decode", "prefill"], frameon=False)
    draw(waiting, report["waiting"], "waiting", ["engine_us", "schedule_us"])
    waiting.set(
        xlabel="requests that wait",
        ylabel="us a step",
        title=f"the engine's own work, {report['running']} running",
    )
    waiting.legend(["all of the engine's thread", "schedule"], frameon=False)
    cores = report["machine"]["cores"]
    figure.suptitle(
        f"{report['shape']} in bf16, {cores} cores (the right one: a tiny model)", x=0.01, ha="left"
    )
    figure.savefig(path, dpi=150)


def draw(axes, rows: list[dict], name: str, keys: list[str]) -> None:
    values = [row[name] for row in rows]
    for key in keys:
        middle = [row[key] for row in rows]
        below = [row[key] - min(each[key] for each in row["rounds"]) for row in rows]
        above = [max(each[key] for each in row["rounds"]) - row[key] for row in rows]
        axes.errorbar(values, middle, yerr=[below, above], marker="o", capsize=3)
    axes.set_xscale("log", base=10 if name == "waiting" else 2)
    axes.set_xticks(values, [f"{value:,}" for value in values], rotation=45, minor=False)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
