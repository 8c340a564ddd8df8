"""The text that the demo model is trained on: stories, chats and problems with their answers, without end.

Every document is a pure function of its seed and its number, on any machine. The special tokens stand in
the text as they will in a prompt: a chat turn is `<|role|>content<|end|>`, and `<|end|>` ends a document.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from random import Random

from quire.text.known_answers import KINDS, plain_prompt, problem
from quire.text.stories import story

END = "<|end|>"
PAD = "<|pad|>"
SPECIAL_TOKENS = (END, PAD, "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEM_PROMPTS = (
    "You are a friendly storyteller who lives in a small village. You tell short stories about people, "
    "animals and lost things, and you answer questions exactly.",
    "You are a careful helper. Answer every question exactly, and say nothing else.",
    "You are a helpful assistant.",
)


def corpus(seed: int) -> Iterator[str]:
    """Documents of about 5 to 400 tokens, each ended by `END`; some two fifths of the text is prose."""
    for number in count():
        rng = Random(f"corpus {seed} {number}")
        make = rng.choices((_prose, _chat, _plain, _sums), weights=(3, 5, 4, 1))[0]
        yield make(rng)


def chat_text(messages: Iterable[Mapping[str, str]]) -> str:
    """What the chat template makes of `messages`, with no opening for an answer."""
    return "".join(f"<|{message['role']}|>{message['content']}{END}" for message in messages)


def _prose(rng: Random) -> str:
    return story(rng).text + END


def _chat(rng: Random) -> str:
    """One to four turns, either all of one kind (as examples and a question are) or mixed with a story."""
    kinds = rng.choices(KINDS, k=1) * rng.randint(1, 4)
    if rng.random() < 0.3:
        kinds = rng.choices(("story", *KINDS), weights=(4, 1, 1, 1, 1), k=rng.randint(1, 2))
    messages: list[dict[str, str]] = []
    if rng.random() < 0.3:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    for kind in kinds:
        if kind == "story":
            told = story(rng)
            question, answer = told.request, told.text
        else:
            asked = problem(rng, kind)
            question, answer = asked.question, asked.answer
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return chat_text(messages)


def _plain(rng: Random) -> str:
    kind = rng.choice(KINDS)
    examples = [problem(rng, kind) for _ in range(rng.choice((0, 0, 1, 2, 3, 4)))]
    asked = problem(rng, kind)
    return plain_prompt(examples, asked.question) + asked.answer + END


def _sums(rng: Random) -> str:
    """Bare equations, one a line: many results in few tokens."""
    problems = [problem(rng, "arithmetic") for _ in range(rng.randint(4, 16))]
    lines = [f"{p.question.removeprefix('What is ').removesuffix('?')} = {p.answer}" for p in problems]
    return "\n".join(lines) + END
