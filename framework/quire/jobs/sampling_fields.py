"""Sampling parameters as JSON has them: each field checked for its type, over defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from quire.engine.request import SamplingParams
from quire.errors import UserError
from quire.registry import near_miss


def sampling_from_json(given: Mapping[str, Any], defaults: SamplingParams) -> SamplingParams:
    """`defaults` with the fields in `given` replaced. Raises UserError for an unknown field, a wrong type, or
    a value out of range.
    """
    for name in given:
        if name not in _READERS:
            raise UserError(f"{name}: there is no such sampling parameter{near_miss(name, _READERS)}")
    return replace(defaults, **{name: _READERS[name](name, value) for name, value in given.items()})


def is_integer(value: object) -> TypeGuard[int]:
    """Whether JSON had an integer there: `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def integers(name: str, value: Any) -> tuple[int, ...]:
    """A list of integers."""
    if not isinstance(value, list) or not all(map(is_integer, value)):
        raise _wrong(name, value, "a list of integers")
    return tuple(value)


def _wrong(name: str, value: Any, allowed: str) -> UserError:
    shown = repr(value)
    return UserError(f"{name}={shown if len(shown) <= 80 else shown[:77] + '...'}: must be {allowed}")


def _integer(name: str, value: Any) -> int:
    if not is_integer(value):
        raise _wrong(name, value, "an integer")
    return value


def _number(name: str, value: Any) -> float:
    if not is_integer(value) and not isinstance(value, float):
        raise _wrong(name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise _wrong(name, value, "a number that a float can hold") from None


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _strings(name: str, value: Any) -> tuple[str, ...]:
    """One string, or a list of them."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise _wrong(name, value, "a string or a list of strings")
    return tuple(values)


def _bias(name: str, value: Any) -> dict[int, float]:
    """Token id -> number; JSON's keys are strings."""
    try:
        return {int(token): _number(name, number) for token, number in value.items()}
    except (AttributeError, ValueError):
        raise _wrong(name, value, "an object of token ids and numbers") from None


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return value


def _optional(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else read(name, value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "temperature": _number,
    "top_k": _optional(_integer),
    "top_p": _number,
    "min_p": _number,
    "repetition_penalty": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "logit_bias": _bias,
    "allowed_token_ids": _optional(integers),
    "bad_token_ids": integers,
    "seed": _optional(_integer),
    "n": _integer,
    "max_tokens": _optional(_integer),
    "min_tokens": _integer,
    "stop": _strings,
    "stop_token_ids": integers,
    "ignore_eos": _flag,
    "logprobs": _optional(_integer),
    "prompt_logprobs": _optional(_integer),
    "extra": _object,
}
