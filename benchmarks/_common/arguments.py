"""Arguments of a benchmark: key=value words become a frozen dataclass, mistakes one message."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar, get_args, get_type_hints


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


_T = TypeVar("_T", bound=_Dataclass)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "a text"}


def read_arguments(options: type[_T], arguments: Sequence[str], usage: str | None = None) -> _T:
    """Read the words of a command line.

    Args:
        options: a dataclass whose fields are int, float, bool, str or Path, or one of them or None. The field
            `data_root` is the key `data.root` where its metadata say so: {"key": "data.root"}.
        arguments: words such as `batch_size=32`.
        usage: what `--help` prints before the keys.

    Raises:
        SystemExit: with a message after a mistake, without one after `--help`.
    """
    by_key = {_key(field): field for field in fields(options)}
    if {"--help", "-h"} & set(arguments):
        print(f"{(usage or '').strip()}\n\nKeys and defaults:")
        for key, field in by_key.items():
            print(f"  {key}={'' if field.default in (None, MISSING) else field.default}")
        raise SystemExit(0)
    types = get_type_hints(options)
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            _refuse(f"{argument!r} cannot be read; arguments are key=value, with the keys {', '.join(by_key)}")
        if key not in by_key:
            near = difflib.get_close_matches(key, by_key, n=1)
            offer = f"did you mean {near[0]}? " if near else ""
            _refuse(f"unknown key {key}; {offer}The keys are {', '.join(by_key)}")
        name = by_key[key].name
        values[name] = _convert(key, text, types[name])
    for key, field in by_key.items():
        if field.default is MISSING and field.name not in values:
            _refuse(f"{key} is not set; give {key}=VALUE")
    return options(**values)


def to_arguments(options: _Dataclass) -> list[str]:
    """The words that `read_arguments` reads back as these options."""
    values = {_key(field): getattr(options, field.name) for field in fields(options)}
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def require(holds: bool, message: str) -> None:
    """Stop with a message for people where an argument makes no sense."""
    if not holds:
        _refuse(message)


def require_positive(options: _Dataclass, *names: str) -> None:
    """Stop with a message where one of these fields holds a number that is not above 0; None passes."""
    for name in names:
        value = getattr(options, name)
        require(value is None or value > 0, f"{name} must be above 0, got {value}")


def _key(field: Field[Any]) -> str:
    return str(field.metadata.get("key", field.name))


def _convert(key: str, text: str, kind: Any) -> Any:
    kind = next(k for k in (get_args(kind) or (kind,)) if k is not type(None))
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return Path(text).expanduser().absolute() if kind is Path else kind(text)
    except (ValueError, KeyError):
        _refuse(f"{key} must be {_WORDS[kind]}, got {text!r}")


def _refuse(message: str) -> NoReturn:
    raise SystemExit(f"benchmark: {message}")
