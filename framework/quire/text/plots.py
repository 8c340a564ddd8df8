"""The plots of the story grammar: what can be told, in which order, in which words.

Braces name members of the cast that `quire.text.stories` draws for a piece: {x} and {y} are two people, of
whom {He}, {he}, {him}, {his}, {His} speak for the first, {she} and {her} for the second; {p} and {q} are
places, {i} and {j} ingredients, {o} a thing, {c} a color, {a} an animal, {f} a food, {v} a vehicle and {w}
the weather.
"""

from dataclasses import dataclass

Slot = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """`requests` are ways to ask for the piece; `slots` hold its sentences; `joint` stands between them."""

    requests: Slot
    slots: tuple[Slot, ...]
    joint: str = " "


OPENING = (
    "It was a {w} day in {season}, and {x} did not know what to do.",
    "One {w} morning, {x} woke up early.",
    "Once upon a time, there was a {trait} {child} named {x}.",
    "{x} was a {trait} {child} who lived near the {p}.",
    "On {day}, the weather was {w}, and {x} went out to play.",
    "There once was a {child} called {x}. {He} was very {trait}.",
)
CLOSING = (
    "From that day on, {x} and {y} were the best of friends.",
    "That night {x} slept very well.",
    "{x} never forgot that day.",
    "In the evening they sat by the fire and told the story to everyone.",
    "{x} went home with a smile.",
    "It had been a long day, but a good one.",
)

PLOTS = (
    Plot(
        requests=(
            "Tell me a story about {x} and a lost {o}.",
            "Tell me how {x} lost the {o}.",
            "Write a story about a {c} {o}.",
        ),
        slots=(
            OPENING,
            (
                "{x} had a {c} {o} that {he} loved very much.",
                "{x} owned a {c} {o}, and {he} took it everywhere.",
                "{His} most precious thing was a {c} {o}.",
            ),
            (
                "After a walk to the {p}, {he} could not find it.",
                "But one day the {o} was gone.",
                "When {he} came back from the {p}, the {o} was missing.",
            ),
            (
                "{x} felt sad and began to look for it.",
                '"Where is my {o}?" {he} cried.',
                "{He} looked under the bed and behind the door, but it was not there.",
            ),
            (
                '{His} friend {y} said, "Let us look for it together."',
                "Then {he} met {y}, who promised to help {him}.",
                '"Do not worry," said {y}. "I will help you."',
            ),
            (
                "First they went to the {p}, but they found nothing.",
                "They searched the {p} all afternoon.",
                "They asked the old {job}, who had seen a {c} {o} near the {q}.",
            ),
            (
                "At last they found the {o} at the {q}, where a {a} was sleeping on it.",
                "Then {y} saw something {c} near the {q}. It was the {o}!",
                "In the end the {o} was at the {q}, because a {a} had carried it there.",
            ),
            (
                '"Thank you, {y}," said {x}. "You are a good friend."',
                "{x} was so happy that {he} hugged {y}.",
                "{x} laughed and thanked {his} friend.",
            ),
            CLOSING,
        ),
    ),
    Plot(
        requests=(
            "Tell me a story about {x} who makes {f}.",
            "Write a story in which {x} and {y} eat {f}.",
            "Tell me how {x} made {f} for {y}.",
        ),
        slots=(
            OPENING,
            (
                "{x} wanted to make {f} for {y}.",
                "It was the birthday of {y}, so {x} decided to make {f}.",
                '"Today I will make {f}," said {x}.',
            ),
            (
                "But when {he} opened the cupboard, there was no {i} left.",
                "{He} had {j}, but {he} did not have any {i}.",
                "{He} went to the kitchen, but {he} found no {i} there.",
            ),
            (
                "So {he} took {his} {o} and walked to the market.",
                "{He} put on {his} {c} coat and went to the shop.",
                "{He} went to the old {job} and asked for some.",
            ),
            (
                '"How much does it cost?" asked {x}. "Two coins," said the {job}.',
                "The {job} gave {him} a big bag and did not want any money.",
                'The {job} smiled and said, "Take as much as you need."',
            ),
            (
                "Back at home, {x} worked for an hour.",
                "{x} ran home and started to cook.",
                "Soon the whole house smelled of {f}.",
            ),
            (
                "When {y} came, the {f} was ready.",
                'Then {y} knocked at the door. "What smells so good?" {she} asked.',
                "{y} tasted it first and asked for more.",
            ),
            (
                "They ate together, and even the {a} got a little piece.",
                '"This is the best {f} in the whole village!" said {y}.',
                "They shared the {f} with everyone in the {p}.",
            ),
            CLOSING,
        ),
    ),
    Plot(
        requests=(
            "Tell me a story about a {a}.",
            "Write a story about {x} and a {a}.",
            "Tell me how {x} saved a {a}.",
        ),
        slots=(
            OPENING,
            (
                "{x} was walking along the {p} when {he} heard a strange sound.",
                "On the way to the {p}, {x} heard someone crying.",
                "Near the {p}, {he} saw something move.",
            ),
            (
                "It was a little {a}, and it could not get out of the well.",
                "It was a small {c} {a} with a hurt leg.",
                "A young {a} sat there all alone, cold and hungry.",
            ),
            (
                '"You poor {a}," said {x}. "I will help you."',
                "The {a} looked at {him} with big eyes.",
                "At first the {a} was afraid of {him}.",
            ),
            (
                "{x} could not do it alone, so {he} called {y}.",
                "{He} ran to {y} and told {her} what had happened.",
                "Luckily, {y} came by with a long rope.",
            ),
            (
                "Together they pulled, and the {a} was free.",
                "They wrapped the {a} in a {c} coat and carried it to the {q}.",
                "{y} gave it some milk, and soon it felt better.",
            ),
            (
                "They built a little house for it out of an old box.",
                "The next day the {a} was well again and ran around the {q}.",
                '"Can we keep it?" asked {x}. "Yes," said {y}, "if you take good care of it."',
            ),
            (
                "Since then the {a} follows {x} wherever {he} goes.",
                "Every morning {x} brings it something to eat.",
                "The {a} was never lonely again.",
            ),
            CLOSING,
        ),
    ),
    Plot(
        requests=(
            "Tell me a story about a trip to {city}.",
            "Write a story about {x} and {y} in {city}.",
            "Tell me how {x} went to {city}.",
        ),
        slots=(
            OPENING,
            (
                "{x} had always wanted to see {city}.",
                "A letter came from {y}, who lived in {city}.",
                '"Come and visit me in {city}," {y} had written.',
            ),
            (
                "So {he} packed {his} {c} bag and took the {v}.",
                "{He} left early in the morning and went by {v}.",
                "The {v} was late because of the weather, but {he} waited.",
            ),
            (
                "On the way {he} saw a {mountain} and a great {p}.",
                "The road went past the {p} and over a bridge.",
                "Next to {him} sat a {job} with a {a}, and they talked for hours.",
            ),
            (
                "When {he} arrived, {y} was already waiting at the station.",
                "At the station, {y} waved a {c} scarf.",
                "It was dark when {he} arrived, but {y} had a lamp.",
            ),
            (
                "First they went to the {q}, and then they ate {f}.",
                "They visited the {q} and bought a {o} at the market.",
                "The next day they climbed the tower and looked at the whole city.",
            ),
            (
                '"I would like to stay here," said {x}.',
                '"It is even more beautiful than I thought," said {x}.',
                "{x} liked the {q} best of all.",
            ),
            (
                "After three days it was time to say goodbye.",
                "When {he} came home, {he} told everybody about {city}.",
                '"Next time I will visit you," said {y}.',
            ),
            CLOSING,
        ),
    ),
    Plot(
        requests=(
            "Tell me a story about {x} who learns to {skill}.",
            "Tell me how {x} learned to {skill}.",
            "Write a story about {x}, who could not {skill}.",
        ),
        slots=(
            OPENING,
            (
                "{x} could not {skill}, and this made {him} sad.",
                "All the other children could {skill}, but {x} could not.",
                "More than anything else, {x} wanted to {skill}.",
            ),
            (
                '"I will never learn it," {he} said.',
                "{He} tried it once, but it did not go well.",
                "The first time {he} tried, everybody laughed.",
            ),
            (
                'Then {y}, who was a {job}, said, "Nobody learns it in one day."',
                '"I can show you how," said {y}.',
                "One day {he} met {y}, a {trait} {job}, and asked for help.",
            ),
            (
                "So they met at the {p} every {day}.",
                "They practiced behind the {p}, where nobody could see them.",
                "Every evening after work they went to the {p}.",
            ),
            (
                "It was hard, but {x} did not give up.",
                "Sometimes {he} was tired, but {he} tried again and again.",
                "After a week it was a little better.",
            ),
            (
                "In {season} there was a feast at the {q}, and everyone came to watch.",
                "Then the great day came.",
                'One morning {y} said, "Now try it alone."',
            ),
            (
                "And {x} could {skill} better than all the others!",
                "{x} took a deep breath, and this time it worked.",
                "This time nobody laughed. They all clapped their hands.",
            ),
            CLOSING,
        ),
    ),
    Plot(
        requests=(
            "Write a dialogue between {x} and {y}.",
            "What do {x} and {y} talk about?",
            "Write down a talk between {x} and {y}.",
        ),
        slots=(
            ("{x}: Good morning, {y}! How are you?", "{x}: Hello, {y}. What a {w} day!", "{x}: Hi, {y}."),
            ("{y}: I am fine, thank you. And you?", "{y}: Hello, {x}. It is good to see you."),
            (
                "{x}: I am well. I am going to the {p}. Will you come with me?",
                "{x}: Do you have time today? I would like to go to the {p}.",
            ),
            ("{y}: What do you want to do there?", "{y}: To the {p}? Why do you want to go there?"),
            (
                "{x}: I want to look for my {c} {o}. I lost it there on {day}.",
                "{x}: They say that a {c} {a} lives there. I want to see it.",
                "{x}: I promised to bring some {f} to the old {job}.",
            ),
            (
                "{y}: But it is already late. Let us go tomorrow.",
                "{y}: I would love to come, but first I must go to the {q}.",
                "{y}: That sounds like fun. I will take my {o} with me.",
            ),
            (
                "{x}: All right. I will wait for you at the {q}.",
                "{x}: Good. Then we meet at the {q} at {hour}.",
            ),
            ("{y}: See you then!", "{y}: I will be there. Goodbye, {x}!"),
        ),
        joint="\n",
    ),
    Plot(
        requests=("Describe the {p}.", "What does the {p} look like?", "Tell me about the {p}."),
        slots=(
            (
                "The {p} lies just outside the village.",
                "The old {p} is the most beautiful place in the whole land.",
                "Behind the {q} there is a little {p} that few people know.",
            ),
            (
                "In {season} it is quiet there, and the light is {c}.",
                "When it is {w}, hardly anybody goes there.",
                "The way to it is long and leads past the {q}.",
            ),
            (
                "A {trait} {job} named {x} looks after it.",
                "{x}, the {job}, has lived there for many years.",
                "Every {day}, {x} the {job} comes there to rest.",
            ),
            (
                "{He} has a {c} {a} and a {o} that once belonged to {his} father.",
                "{He} lives there with a {a}, which sleeps beside the door.",
                "People say that {he} once found a {c} {o} there.",
            ),
            (
                "If you come at {hour}, you may see {him} with a {o} in {his} hand.",
                "If you ask politely, {he} will give you some {f}.",
                "In the evening you can hear {him} sing.",
            ),
            (
                "Children like to play there, because it is never too loud.",
                "Nobody knows who built it, but everybody likes it.",
                "Whoever has been there once wants to come back.",
            ),
        ),
    ),
)
