"""Whether settings are of the types that their fields say: a comma that is missing, or a value in the wrong place.

Python itself does not look, and what comes of it later (`'tuple' object has no attribute 'emails'`) names no field.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

OWN_CHECK: Final = "checked elsewhere, by a sentence of its own"
"""In `Annotated`: leave this type alone."""


def check_types(settings: Any) -> None:
    """Check text, tuples, mappings and nested settings; numbers and choices have checks of their own that say more.

    Raises:
        ValueError: naming the field, what it takes, what it was given, and the fix.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        name = f"{type(settings).__name__}.{field.name}"
        for wanted, value in _wrong(hints[field.name], getattr(settings, field.name)):
            # Whoever sets the secret itself must not find it in a build log.
            given = type(value).__name__ if "secret" in field.name else f"{value!r}"
            raise ValueError(f"{name} must be {_said(wanted)}, got {given}{_fix(wanted, value)}")


def _wrong(wanted: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each part of a value that is not of its type, with that type."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        (*inner,) = (argument for argument in arguments if argument is not type(None))
        if len(inner) == 1 and value is not None:
            yield from _wrong(inner[0], value)
    elif origin is tuple:
        if not isinstance(value, tuple):
            yield wanted, value
        else:
            for item in value:
                yield from _wrong(arguments[0], item)
    elif origin is Mapping:
        if not isinstance(value, Mapping):
            yield wanted, value
        else:
            for item in value.values():
                yield from _wrong(arguments[1], item)
    elif isinstance(wanted, type) and (wanted is str or is_dataclass(wanted)) and not isinstance(value, wanted):
        yield wanted, value


def _said(wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return f"a tuple, {_example(wanted)}"
    if get_origin(wanted) is Mapping:
        return f"a mapping, {_example(wanted)}"
    return f"text, {_example(wanted)}" if wanted is str else _example(wanted)


def _example(wanted: Any) -> str:
    match get_origin(wanted), get_args(wanted):
        case (origin, (item, *_)) if origin is tuple:
            return f"({_example(item)},)"
        case (origin, (_, item)) if origin is Mapping:
            return f"{{'…': {_example(item)}}}"
    return "'…'" if wanted is str or get_origin(wanted) is Annotated else f"{wanted.__name__}(…)"


def _fix(wanted: Any, value: Any) -> str:
    if get_origin(wanted) is tuple and not isinstance(value, (list, set)):
        return ": a tuple of one has a comma at its end"
    if is_dataclass(wanted):
        return f": name its fields, {', '.join(field.name for field in fields(wanted)[:3])} …"
    return ""
