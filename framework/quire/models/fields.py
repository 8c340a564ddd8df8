"""Typed reading of a checkpoint's config.json, where a mistake is one clear line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from quire.errors import UserError

T = TypeVar("T")


class Fields:
    """The fields of config.json, or of one object inside it (`prefix` then names that object in errors).

    A field that is absent takes the default; one without default is required. `null` counts as absent, except
    for the `optional_` readers, to which it means None: a checkpoint says so that it has no window or no cap.
    """

    def __init__(self, values: Mapping[str, Any], *, prefix: str = "") -> None:
        self.values = values
        self._prefix = prefix

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._present(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(name, "an integer of at least 0")
        return value

    def first_integer(self, *names: str) -> int:
        """The integer under the first of these names that is there: what a field was called over time."""
        return self.integer(next((name for name in names if self.values.get(name) is not None), names[0]))

    def optional_integer(self, name: str, default: int | None = None) -> int | None:
        return None if self._says_none(name, default) else self.integer(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        value = self._present(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(name, "a number")
        return float(value)

    def optional_number(self, name: str, default: float | None = None) -> float | None:
        return None if self._says_none(name, default) else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        value = self._present(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, allowed: Mapping[str, T], default: str | None = None) -> T:
        """What the field's value stands for in `allowed`."""
        value = self._present(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(name, " or ".join(allowed))
        return allowed[value]

    def choice_of(self, name: str, allowed: Sequence[T], default: T | None = None) -> T:
        """The field's value, which must be one of those allowed, of their very type."""
        value = self._present(name, default)
        for each in allowed:
            if value == each and type(value) is type(each):
                return each
        raise self.wrong(name, " or ".join(json.dumps(each) for each in allowed))

    def group_size(self, name: str) -> int | None:
        """How many weights share a scale; None for -1, a whole row."""
        value = self._present(name, None)
        if not isinstance(value, int) or isinstance(value, bool) or (value < 1 and value != -1):
            raise self.wrong(name, "-1 or an integer of at least 1")
        return None if value == -1 else value

    def numbers(self, name: str, *, length: int) -> tuple[float, ...]:
        values = tuple(float(value) for value in self._items(name, (int, float), "numbers"))
        if len(values) != length:
            raise UserError(
                f"config.json: {self._prefix}{name} has {len(values)} numbers: must have {length}"
            )
        return values

    def integers(self, name: str) -> tuple[int, ...]:
        """Those listed; none where the field is absent."""
        return self._items(name, (int,), "integers") if self.values.get(name) is not None else ()

    def choices(self, name: str, allowed: Mapping[str, T], *, length: int) -> tuple[T, ...] | None:
        """What each of the `length` values listed stands for in `allowed`; None where the field is absent."""
        values = self.values.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or any(value not in allowed for value in values):
            raise self.wrong(name, f"a list of {' or '.join(allowed)}")
        if len(values) < length:
            raise UserError(
                f"config.json: {self._prefix}{name} has {len(values)} entries: must have {length}"
            )
        return tuple(allowed[value] for value in values[:length])

    def section(self, name: str) -> Fields | None:
        """The fields of an object inside this one; None where it is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, prefix=f"{self._prefix}{name}.")

    def refuse(self, name: str, reason: str) -> None:
        """Raise UserError if the field is set to anything but false, null or nothing."""
        if self.values.get(name):
            raise UserError(f"config.json: {self._prefix}{name} is set: {reason}")

    def wrong(self, name: str, allowed: str) -> UserError:
        return UserError(f"config.json: {self._prefix}{name}={self.values.get(name)!r}: must be {allowed}")

    def _present(self, name: str, default: object) -> Any:
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise UserError(f"config.json: {self._prefix}{name} is missing")
        return value

    def _says_none(self, name: str, default: object) -> bool:
        return self.values.get(name, default) is None

    def _items(self, name: str, kinds: tuple[type, ...], described: str) -> tuple[Any, ...]:
        values = self.values.get(name)
        if not isinstance(values, list) or not all(type(value) in kinds for value in values):
            raise self.wrong(name, f"a list of {described}")
        return tuple(values)
