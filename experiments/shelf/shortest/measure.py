"""How much does knowing output lengths bring, and what does it cost the long ones?

Qiu et al. (2024), shortest predicted job first: mean completion time 30 to 40% lower; Shahout et al., TRAIL
(ICLR 2025), shortest remaining first: 1.7 to 2 times lower. The predictor here knows true lengths up to a
rank correlation. Ageing bounds how long anyone is overtaken.
"""

from itertools import pairwise

from experiments.shelf.lab import STATED, Outcome, Panel, Study, difference, kv_tokens, machine, ratio

COMMON = (
    *("engine.max_sequences=16", "engine.max_step_tokens=2048", "workload.output_cap=1024"),
    *(kv_tokens(2**20), machine(STATED)),
)
QUALITIES = (0.0, 0.4, 0.8, 1.0)
AGING = 20
POLICIES = ("sjf", "srpt")


def measure(outcome: Outcome) -> dict[str, float]:
    e2e = outcome.steady["e2e_s"]
    return {"mean_s": e2e["mean"], "p99_s": e2e["p99"]}


def arms_of(policy: str, *more: str) -> dict[str, tuple[str, ...]]:
    noisy = "predictor=noisy"
    return {
        f"{policy} {quality:g}": (
            *(*COMMON, f"scheduler={policy}", noisy, f"predictor.correlation={quality}", *more),
        )
        for quality in QUALITIES
    }


def main() -> None:
    study = Study(__file__, "Shortest job first, by the quality of the prediction", requests=600)
    fcfs = (*COMMON, "scheduler=fcfs")
    load = study.at_load(0.95, fcfs, study.load("azure_conv"))
    arms = {"fcfs": fcfs}
    for policy in POLICIES:
        arms |= arms_of(policy)
        arms[f"{policy} 1 aged"] = (*arms[f"{policy} 1"], f"scheduler.aging={AGING}")
    taken = study.run("95% load", arms, load, measure)
    base = taken["fcfs"]
    for policy in POLICIES:
        means = [taken[f"{policy} {quality:g}"]["mean_s"] for quality in QUALITIES]
        for (worse, better), (slow, fast) in zip(pairwise(QUALITIES), pairwise(means), strict=True):
            study.claim(
                f"mean completion, {policy}, correlation {better:g} / {worse:g}", ratio(fast, slow), at_most=1
            )
        study.claim(
            f"mean completion, {policy} that knows / fcfs", ratio(means[-1], base["mean_s"]), at_most=0.9
        )
        known, aged = taken[f"{policy} 1"], taken[f"{policy} 1 aged"]
        study.claim(f"p99, {policy} that knows / fcfs", ratio(known["p99_s"], base["p99_s"]), at_least=1)
        study.claim(f"p99, {policy} with ageing / fcfs", ratio(aged["p99_s"], base["p99_s"]), at_most=1.3)
        gain = difference(base["mean_s"], aged["mean_s"])
        study.claim(f"mean completion saved by {policy} with ageing (s)", gain, at_least=0)
    blind = ratio(taken["sjf 0"]["mean_s"], base["mean_s"])
    study.claim("mean completion, sjf that guesses / fcfs", blind, at_least=0.9, at_most=1.1, control=True)
    for key, label in (("mean_s", "mean completion (s)"), ("p99_s", "p99 completion (s)")):
        lines = {each: [taken[f"{each} {quality:g}"][key] for quality in QUALITIES] for each in POLICIES}
        lines["fcfs"] = [base[key]] * len(QUALITIES)
        study.show(Panel(label=label, x=QUALITIES, x_label="rank correlation of the prediction", lines=lines))
    values = {arm: taken[arm]["p99_s"] for arm in ("fcfs", "sjf 1", "sjf 1 aged", "srpt 1", "srpt 1 aged")}
    study.show(Panel(label="p99 completion (s)", values=values))
    study.exit()


if __name__ == "__main__":
    main()
