"""The words of the generated text: small closed sets, so that a small model can learn all of them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIRLS = _words(
    "Ada Anna Bella Clara Dora Ella Emma Flora Grace Hanna Ida Iris Julia Lena Lily Maya Mia Nina Nora Olga "
    "Rosa Ruth Sara Tina Vera Zoe"
)
BOYS = _words(
    "Adam Amir Ben Carl Dan David Emil Finn Frank Hugo Ivan Jack Jonas Karl Leo Lukas Max Noah Oscar Otto "
    "Paul Peter Sam Theo Tom Victor"
)
NAMES = GIRLS + BOYS
CITIES = _words(
    "Athens Berlin Boston Cairo Delhi Dublin Geneva Lagos Lima London Madrid Milan Oslo Paris Porto Prague "
    "Rome Seoul Tokyo Vienna"
)
JOBS = _words(
    "baker carpenter cook doctor driver farmer fisher gardener guard lawyer nurse painter pilot sailor "
    "singer student tailor teacher waiter writer"
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLORS = _words("black blue brown golden gray green orange pink purple red silver white yellow")
THINGS = _words(
    "ball basket bell boat book bottle box brush bucket button camera candle clock coat coin cup drum "
    "feather flag flute hammer hat key kite knife ladder lamp letter map mirror needle pen pillow plate ring "
    "rope scarf shoe spoon stone ticket toy umbrella violin wheel whistle"
)
ANIMALS = _words("bird cat cow dog donkey duck fox goat hare horse kitten lamb owl puppy rabbit sheep")
FOODS = _words("bread cake cheese honey jam pie pudding salad soup stew")
INGREDIENTS = _words("apples beans butter carrots eggs flour milk nuts onions plums salt sugar")
PLACES = _words(
    "attic barn bridge castle cave cellar church farm field forest garden harbor hill house island kitchen "
    "lake library market meadow mill mountain museum park river school shop station tower valley village "
    "well"
)
VEHICLES = _words("boat bus cart train tram wagon")
WEATHERS = {
    "spring": ("cloudy", "mild", "rainy", "sunny", "warm", "windy"),
    "summer": ("dry", "hot", "stormy", "sunny", "warm"),
    "autumn": ("cloudy", "cold", "foggy", "rainy", "windy"),
    "winter": ("cloudy", "cold", "foggy", "snowy", "stormy"),
}
SKILLS = _words("climb cook dance draw paint ride row sail sing skate swim whistle")
TRAITS = _words("brave calm clever curious gentle kind lazy patient proud quiet shy wise")
SYLLABLES = _words("ba do fi ga hu ka le mo ni pa ru sa ti vo we zu")

WORDS = THINGS + ANIMALS + FOODS + INGREDIENTS + PLACES + COLORS
