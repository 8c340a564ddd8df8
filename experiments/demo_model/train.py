"""Train the demo model from scratch on the generated corpus, and write it in Hugging Face format.

    python experiments/demo_model/train.py [--steps 4400] [--seed 0] [--out framework/quire/demo_model]

One CPU process, of a length in steps, not in minutes. The schedule is warm-up, stable, decay (Hu et al.,
MiniCPM, 2024): up to the decay a run is the beginning of every longer one, so that `--resume` can lengthen
a run whose state was kept, or start its decay sooner.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

import torch
import transformers
from evaluate import evaluate, samples
from induction import start_near_induction
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from quire.text.corpus import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, corpus

HERE = Path(__file__).parent
VOCABULARY = 2048
CONTEXT = 1024
TOKENS_PER_STEP = 2048
NO_TARGET = -100
PEAK_RATE, WARM_UP_STEPS, DECAY_PART = 2e-3, 50, 0.25
LOG_EVERY, KEEP_EVERY = 20, 200


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What the rows are from step `start` on."""

    start: int
    length: int  # tokens a row
    repeated: float = 0.0  # the part of the rows that are no text but random tokens, again and again
    looked_up: float = 0.0  # the part of the rows that are no text but random pairs, listed and looked up


CURRICULUM = (
    Phase(start=0, length=128, repeated=1.0),
    Phase(start=300, length=128, repeated=0.125, looked_up=0.25),
    Phase(start=1000, length=256, repeated=0.125, looked_up=0.25),
    Phase(start=2000, length=256, looked_up=0.125),
)


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE; every digit is a token of its own, so that numbers are read place by place."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(corpus(seed), 20_000), trainer)
    return tokenizer


def build_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id(END),
            pad_token_id=tokenizer.token_to_id(PAD),
        )
    )


class Rows:
    """Token rows packed with whole documents; a row begins with a document, as every prompt does."""

    def __init__(self, *, tokenizer: Tokenizer, seed: int) -> None:
        self._documents = self._encode(tokenizer, corpus(seed))
        self._generator = torch.Generator().manual_seed(seed)
        self._random = Random(f"rows {seed}")
        self._question_starts = {tokenizer.token_to_id(word) for word in ("<|user|>", "Question", "Example")}
        self._question_ends = {tokenizer.token_to_id(word) for word in (END, "Answer")}

    @staticmethod
    def _encode(tokenizer: Tokenizer, documents: Iterator[str]) -> Iterator[list[int]]:
        while True:
            for encoding in tokenizer.encode_batch(list(islice(documents, 256))):
                yield encoding.ids

    def batch(self, phase: Phase) -> tuple[Tensor, Tensor]:
        """Inputs and targets, (rows, length) int64."""
        count = TOKENS_PER_STEP // phase.length
        repeats, lookups = int(phase.repeated * count), int(phase.looked_up * count)
        rows: list[list[int]] = []
        targets: list[list[int]] = []
        for _ in range(count - repeats - lookups):
            row: list[int] = []
            while len(row) <= phase.length:
                row += next(self._documents)
            rows.append(row[: phase.length])
            targets.append(self._without_questions(row)[1 : phase.length + 1])
        text = [torch.tensor(part, dtype=torch.int64).view(-1, phase.length) for part in (rows, targets)]
        drills = (self._repeated(repeats, phase.length), self._looked_up(lookups, phase.length))
        return (
            torch.cat([text[0], *(drill[0] for drill in drills)]),
            torch.cat([text[1], *(drill[1] for drill in drills)]),
        )

    def _without_questions(self, row: list[int]) -> list[int]:
        """Questions are random: to foretell them is mostly noise, which drowned what the answers teach."""
        targets: list[int] = []
        asking = False
        for token in row:
            targets.append(NO_TARGET if asking else token)
            asking = token in self._question_starts or (asking and token not in self._question_ends)
        return targets

    def _repeated(self, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Rows of random tokens that come again and again; what cannot be foretold is no target."""
        period = int(torch.randint(8, 33, (), generator=self._generator))
        segment = torch.randint(len(SPECIAL_TOKENS), VOCABULARY, (count, period), generator=self._generator)
        rows = segment.repeat(1, length // period + 1)[:, : length + 1]
        targets = rows[:, 1:].clone()
        targets[:, : period - 1] = NO_TARGET
        return rows[:, :-1], targets

    def _looked_up(self, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Rows that list pairs of a key and a value, then look them up again and again in random order.

        Between key and value stand the same few tokens in every pair, and a key is first named in a question,
        as in a recall problem: only where both agree, key and place, is the value to be found. The values
        looked up are the only targets (Arora et al., Zoology, 2023: multi-query associative recall).
        """
        random = self._random
        rows, targets = [], []
        for _ in range(count):
            pairs = random.randint(2, 8)
            asking, joining = (self._random_tokens(random.randint(0, 3)) for _ in range(2))
            keys = random.sample(range(len(SPECIAL_TOKENS), VOCABULARY), pairs)
            values = [self._random_tokens(random.randint(1, 3)) for _ in keys]
            end = self._random_tokens(1)
            row = [
                token
                for key, value in zip(keys, values, strict=True)
                for token in (key, *joining, *value, *end)
            ]
            target = [NO_TARGET] * len(row)
            while len(row) <= length:
                pair = random.randrange(pairs)
                lead = [*asking, keys[pair], *end, keys[pair], *joining]
                row += lead + values[pair] + end
                target += [NO_TARGET] * len(lead) + values[pair] + end
            rows.append(row[:length])
            targets.append(target[1 : length + 1])
        return tuple(torch.tensor(part, dtype=torch.int64).view(-1, length) for part in (rows, targets))

    def _random_tokens(self, count: int) -> list[int]:
        return [self._random.randrange(len(SPECIAL_TOKENS), VOCABULARY) for _ in range(count)]


def phase_at(step: int, steps: int) -> Phase:
    """By the curriculum; whole contexts in every fourth step of its last phase, and while the rate decays."""
    phase = [phase for phase in CURRICULUM if step >= phase.start][-1]
    whole = step >= (1 - DECAY_PART) * steps or (phase is CURRICULUM[-1] and step % 4 == 0)
    return replace(phase, length=CONTEXT) if whole else phase


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero."""
    return PEAK_RATE * min(1, (step + 1) / WARM_UP_STEPS, (steps - step) / (DECAY_PART * steps))


def make_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def export(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint in bfloat16; a reader finds each file either old or new, never half."""
    out.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        copy.to(torch.bfloat16).save_pretrained(scratch)
        tokenizer.save(f"{scratch}/tokenizer.json")
        Path(scratch, "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")
        for file in Path(scratch).iterdir():
            file.chmod(0o644)
            os.replace(file, out / file.name)


def plot(curve: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot([point["tokens"] / 1e6 for point in curve], [point["loss"] for point in curve], linewidth=0.8)
    axes.set(xlabel="training tokens (millions)", ylabel="loss (nats a token)", yscale="log")
    axes.set_title("Demo model: training loss (questions are no targets)")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=4400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "framework/quire/demo_model")
    parser.add_argument("--results", type=Path, default=HERE, help="where results.json and loss.png go")
    parser.add_argument(
        "--state", type=Path, help=f"keep the state of training here every {KEEP_EVERY} steps"
    )
    parser.add_argument("--resume", type=Path, help="begin where this kept state ends")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.seed)
    model = build_model(tokenizer)
    start_near_induction(model, tokenizer)
    optimizer = make_optimizer(model)
    rows = Rows(tokenizer=tokenizer, seed=options.seed)
    curve: list[dict[str, float]] = []
    first_step, seconds_before = 0, 0.0
    if options.resume is not None:
        state = torch.load(options.resume)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        curve, first_step, seconds_before = state["curve"], state["step"], state["seconds"]
        for step in range(first_step):
            rows.batch(phase_at(step, options.steps))  # the text that was seen already

    losses: list[Tensor] = []
    start = time.perf_counter() - seconds_before
    for step in range(first_step, options.steps):
        inputs, targets = rows.batch(phase_at(step, options.steps))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=inputs, use_cache=False).logits
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=NO_TARGET
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options.steps)
        optimizer.step()
        optimizer.zero_grad()

        losses.append(loss.detach())
        done = step + 1
        if done % LOG_EVERY == 0:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            seconds = time.perf_counter() - start
            curve.append({"step": done, "tokens": done * TOKENS_PER_STEP, "loss": round(mean, 4)})
            print(
                f"step {done}  loss {mean:.4f}  {done * TOKENS_PER_STEP / seconds:.0f} tokens/s", flush=True
            )
        if done % KEEP_EVERY == 0:
            export(model, tokenizer, options.out)
            if options.state is not None:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"curve": curve, "step": done, "seconds": time.perf_counter() - start}
                torch.save(state, options.state)
    seconds = time.perf_counter() - start

    export(model, tokenizer, options.out)
    results = {
        "command": f"python experiments/demo_model/train.py --steps {options.steps} --seed {options.seed}",
        "seed": options.seed,
        "steps": options.steps,
        "tokens": options.steps * TOKENS_PER_STEP,
        "parameters": model.num_parameters(),
        "seconds": round(seconds),
        "threads": options.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "final_loss": curve[-1]["loss"],
        "accuracy": evaluate(options.out),
        "samples": samples(options.out),
        "curve": curve,
    }
    (options.results / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(curve, options.results / "loss.png")


if __name__ == "__main__":
    main()
