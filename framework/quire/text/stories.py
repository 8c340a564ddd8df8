"""Short stories, descriptions and dialogues from a template grammar, coherent by construction.

A plot is a sequence of slots, a slot a choice of phrasings; one cast (people with their pronouns, things,
places) is drawn for the whole piece and bound in every slot, so that names, pronouns, causes and outcomes
agree from the first sentence to the last.
"""

from dataclasses import dataclass
from random import Random

from quire.text import lexicon
from quire.text.plots import PLOTS, Slot


@dataclass(frozen=True, kw_only=True)
class Story:
    """A piece of prose and what a reader would have said to be given it."""

    request: str
    text: str


HOURS = ("noon", "three", "four", "five", "six", "sunset")


def _after_a(words: Slot) -> Slot:
    """Those that follow "a", never "an"."""
    return tuple(word for word in words if word[0] not in "aeiou")


def _cast(rng: Random) -> dict[str, str]:
    x, y = rng.sample(lexicon.NAMES, 2)
    p, q = rng.sample(lexicon.PLACES, 2)
    i, j = rng.sample(lexicon.INGREDIENTS, 2)
    season = rng.choice(tuple(lexicon.WEATHERS))
    x_is_girl, y_is_girl = x in lexicon.GIRLS, y in lexicon.GIRLS
    return {
        "x": x,
        "y": y,
        "child": "girl" if x_is_girl else "boy",
        "he": "she" if x_is_girl else "he",
        "He": "She" if x_is_girl else "He",
        "him": "her" if x_is_girl else "him",
        "his": "her" if x_is_girl else "his",
        "His": "Her" if x_is_girl else "His",
        "she": "she" if y_is_girl else "he",
        "her": "her" if y_is_girl else "him",
        "p": p,
        "q": q,
        "i": i,
        "j": j,
        "o": rng.choice(_after_a(lexicon.THINGS)),
        "c": rng.choice(_after_a(lexicon.COLORS)),
        "a": rng.choice(_after_a(lexicon.ANIMALS)),
        "f": rng.choice(lexicon.FOODS),
        "v": rng.choice(lexicon.VEHICLES),
        "w": rng.choice(lexicon.WEATHERS[season]),
        "season": season,
        "day": rng.choice(lexicon.DAYS),
        "job": rng.choice(lexicon.JOBS),
        "trait": rng.choice(_after_a(lexicon.TRAITS)),
        "skill": rng.choice(lexicon.SKILLS),
        "city": rng.choice(lexicon.CITIES),
        "mountain": rng.choice(("mountain", "castle", "forest")),
        "hour": rng.choice(HOURS),
    }


def story(rng: Random) -> Story:
    """One piece of 40 to 150 words."""
    plot, cast = rng.choice(PLOTS), _cast(rng)
    sentences = [rng.choice(slot).format_map(cast) for slot in plot.slots]
    return Story(request=rng.choice(plot.requests).format_map(cast), text=plot.joint.join(sentences))
