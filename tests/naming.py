"""Names of parametrised cases: what varies and what it is, not its place in a list."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from types import FunctionType, NoneType
from typing import Any

#: What is longer is better said by a test's own `ids`; pytest numbers it.
LONGEST = 60


def case_name(value: object, argument: str) -> str | None:
    """As `seed=3`, `risk=None` or `CVaR(weight=0.5)`; None leaves the name to pytest."""
    if isinstance(value, str | FunctionType | type):
        return None
    said = in_words(value) if is_dataclass(value) else f"{argument}={in_words(value)}"
    return said if len(said) <= LONGEST else None


def in_words(value: Any) -> str:
    """A value as one would write it; of tables, networks and the like, what they are."""
    match value:
        case FunctionType() | type():
            said = value.__name__
        case float():
            said = f"{value:g}"
        case int() | str() | slice() | NoneType():
            said = repr(value)
        case list():
            said = f"[{', '.join(map(in_words, value))}]"
        case tuple():
            said = f"({', '.join(map(in_words, value))})"
        case dict():
            pairs = (f"{in_words(key)}: {in_words(one)}" for key, one in value.items())
            said = f"{{{', '.join(pairs)}}}"
        case _:
            said = type(value).__name__ + (_own_fields(value) if is_dataclass(value) else "")
    return said


def _own_fields(value: Any) -> str:
    """The fields of a dataclass that were given: those without a default, or that differ."""
    given = [(field, getattr(value, field.name)) for field in fields(value) if field.repr]
    said = (
        f"{field.name}={in_words(one)}"
        for field, one in given
        if field.default is MISSING or in_words(one) != in_words(field.default)
    )
    return f"({', '.join(said)})"
