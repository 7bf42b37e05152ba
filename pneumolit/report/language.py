"""Texts of the pages in other languages than English: a catalogue keyed by the English text.

A text of the catalogue may have places, `{n} images of {name}`: of one letter they stand for a number, else for any
text without a line break. What stands in a place is translated too where the catalogue has it, else it stays: names,
files. Of a place called `list` each part between commas is. A place whose name begins with `own` holds names that a
user gave, of runs, sets or classes: they stay even where the catalogue has that word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

ENGLISH, KOREAN = "en", "ko"
LANGUAGES = (ENGLISH, KOREAN)

_PLACE = re.compile(r"\{(\w+)\}")
_LETTER = re.compile(r"[A-Za-z]")
_NUMBER, _ANYTHING = r"[-+]?\d[\d.,]*", r".+?"


def translate(text: str, language: str) -> str:
    """A text in another language; a text that the catalogue does not have stays English.

    Args:
        text: English, or a number or a name.
        language: one of `LANGUAGES`.

    Raises:
        ValueError: an unknown language.
    """
    if language == ENGLISH:
        return text
    if language not in LANGUAGES:
        raise ValueError(f"report.language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    if not _LETTER.search(text):
        return text
    found = _look_up(text, language)
    return text if found is None else found


@functools.lru_cache(maxsize=4096)
def _look_up(text: str, language: str) -> str | None:
    exact, patterns = _catalogue(language)
    if text in exact:
        return exact[text]
    for pattern, template in patterns:
        match = pattern.fullmatch(text)
        if match is not None:
            return template.format(**{name: _fill(name, value, language) for name, value in match.groupdict().items()})
    return None


def _fill(place: str, text: str, language: str) -> str:
    if place.startswith("own"):
        return text
    if place == "list":
        return ", ".join(translate(part, language) for part in text.split(", "))
    return translate(text, language)


@functools.cache
def _catalogue(language: str) -> tuple[Mapping[str, str], list[tuple[re.Pattern[str], str]]]:
    """Texts without places, and patterns with their templates, those with the most letters of their own first."""
    from pneumolit.report.korean import TEXTS

    assert language == KOREAN
    exact = {english: other for english, other in TEXTS.items() if not _PLACE.search(english)}
    placed = sorted((text for text in TEXTS if text not in exact), key=lambda t: -len(_PLACE.sub("", t)))
    return exact, [(_pattern(english), TEXTS[english]) for english in placed]


def _pattern(english: str) -> re.Pattern[str]:
    """A regular expression with one group per place; a place that comes twice holds the same text twice."""
    parts, seen = [], set[str]()
    for index, piece in enumerate(_PLACE.split(english)):
        if index % 2 == 0:
            parts.append(re.escape(piece))
        else:
            what = _NUMBER if len(piece) == 1 else _ANYTHING
            parts.append(f"(?P={piece})" if piece in seen else f"(?P<{piece}>{what})")
            seen.add(piece)
    return re.compile("".join(parts))
