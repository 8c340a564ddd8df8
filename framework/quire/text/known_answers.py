"""Tasks with one right answer: recall of a fact, copying, arithmetic, JSON.

They are generated, so that an engine's quality can be scored with no download: a model that has learned
them answers nearly all, and a cache, a kernel or a quantization that loses information answers fewer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from quire.text import lexicon
from quire.text.stories import story

KINDS = ("recall", "copy", "arithmetic", "json")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question and its only right answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """A problem as a model is asked it: `prompt` as plain text, `messages` as a chat.

    Both hold the same solved examples first (the "shots"); a completion of either should be `answer`.
    """

    kind: str
    prompt: str
    messages: tuple[dict[str, str], ...]
    answer: str

    def solved_by(self, completion: str) -> bool:
        """Whether `completion` (special tokens removed) is the answer, space around it aside."""
        return completion.strip() == self.answer


def known_answer_tasks(seed: int, count: int) -> list[Task]:
    """`count` tasks, the kinds in turn; half begin with one of a few blocks of examples that others share."""
    rng = Random(f"known answers {seed}")
    blocks = {kind: [[problem(rng, kind) for _ in range(shots)] for shots in (1, 2, 3, 4)] for kind in KINDS}
    tasks: list[Task] = []
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        examples = rng.choice(blocks[kind]) if rng.random() < 0.5 else []
        tasks.append(_task(kind, examples, problem(rng, kind)))
    return tasks


def problem(rng: Random, kind: str) -> Problem:
    """One problem of the kind, one of `KINDS`."""
    make = {"recall": _recall, "copy": _copy, "arithmetic": _arithmetic, "json": _json}
    if kind not in make:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(KINDS)}")
    return make[kind](rng)


def plain_prompt(examples: Sequence[Problem], question: str) -> str:
    """The examples, then the question, as text that the answer continues."""
    shots = "".join(f"Example: {shot.question}\nAnswer:\n{shot.answer}\n\n" for shot in examples)
    return f"{shots}Question: {question}\nAnswer:\n"


def chat_messages(examples: Sequence[Problem], question: str) -> tuple[dict[str, str], ...]:
    """The examples as earlier turns, then the question."""
    turns = [
        {"role": role, "content": content}
        for shot in examples
        for role, content in (("user", shot.question), ("assistant", shot.answer))
    ]
    return (*turns, {"role": "user", "content": question})


def _task(kind: str, examples: Sequence[Problem], asked: Problem) -> Task:
    return Task(
        kind=kind,
        prompt=plain_prompt(examples, asked.question),
        messages=chat_messages(examples, asked.question),
        answer=asked.answer,
    )


def _recall(rng: Random) -> Problem:
    """Two to six facts, one a line, each about a key of its own; the fact about one key is asked."""
    count = rng.randint(2, 6)
    form = rng.choice(("numbers", "owners", "places"))
    if form == "numbers":
        keys = rng.sample(rng.choice((lexicon.NAMES, lexicon.WORDS)), count)
        facts = [f"{key}: {rng.randint(10, 999)}" for key in keys]
        question = "What is the number of {}?"
    elif form == "owners":
        keys = rng.sample(lexicon.NAMES, count)
        things = rng.sample(lexicon.THINGS, count)
        facts = [
            f"{key} has the {rng.choice(lexicon.COLORS)} {thing}."
            for key, thing in zip(keys, things, strict=True)
        ]
        question = "What does {} have?"
    else:
        keys = rng.sample(lexicon.THINGS, count)
        places = rng.sample(lexicon.PLACES, count)
        facts = [f"The {key} is near the {place}." for key, place in zip(keys, places, strict=True)]
        question = "Where is the {}?"
    asked = rng.randrange(count)
    return Problem(question="\n".join((*facts, question.format(keys[asked]))), answer=facts[asked])


def _copy(rng: Random) -> Problem:
    """Words in no order, invented words, digits, or a sentence, to be repeated exactly."""
    form = rng.choice(("words", "words", "invented", "digits", "sentence"))
    if form == "words":
        line = " ".join(rng.sample(lexicon.WORDS, rng.randint(2, 8)))
    elif form == "invented":
        words = ["".join(rng.sample(lexicon.SYLLABLES, rng.randint(2, 3))) for _ in range(rng.randint(1, 4))]
        line = " ".join(words)
    elif form == "digits":
        line = " ".join(str(rng.randint(0, 999)) for _ in range(rng.randint(1, 4)))
    else:
        line = story(rng).text.replace("\n", " ").split(". ")[0].rstrip(".") + "."
    instruction = rng.choice(("Copy this line.", "Repeat exactly.", "Write the same again."))
    return Problem(question=f"{instruction}\n{line}", answer=line)


def _arithmetic(rng: Random) -> Problem:
    """Sums to two digits each, differences up to 20, products of single digits."""
    form = rng.choice("+++-*")
    if form == "+":
        a, b = (rng.randint(0, rng.choice((9, 99))) for _ in range(2))
        result = a + b
    elif form == "-":
        a = rng.randint(0, 20)
        b = rng.randint(0, a)
        result = a - b
    else:
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        result = a * b
    return Problem(question=f"What is {a} {form} {b}?", answer=str(result))


def _json(rng: Random) -> Problem:
    """A sentence or a list of fields, to be written as one flat JSON object."""
    name, age, city = rng.choice(lexicon.NAMES), rng.randint(5, 99), rng.choice(lexicon.CITIES)
    job, day = rng.choice(lexicon.JOBS), rng.choice(lexicon.DAYS)
    color, thing = rng.choice(lexicon.COLORS), rng.choice(lexicon.THINGS)
    price, animal = rng.randint(1, 99), rng.choice(lexicon.ANIMALS)
    sentence, fields = rng.choice(
        (
            (f"{name} is {age} years old and lives in {city}.", {"name": name, "age": age, "city": city}),
            (f"{name} works as a {job} in {city}.", {"name": name, "job": job, "city": city}),
            (f"The {color} {thing} costs {price} coins.", {"item": thing, "color": color, "price": price}),
            (f"{name} goes to {city} on {day}.", {"name": name, "city": city, "day": day}),
            (f"The {animal} of {name} is {color}.", {"animal": animal, "owner": name, "color": color}),
            (f"{name}, a {job}, is {age}.", {"name": name, "job": job, "age": age}),
        )
    )
    if rng.random() < 0.4:
        keys = rng.sample(list(fields), rng.randint(2, 3))
        fields = {key: fields[key] for key in keys}
        sentence = ", ".join(f"{key} = {value}" for key, value in fields.items())
    return Problem(question=f"Write as JSON.\n{sentence}", answer=json.dumps(fields))
