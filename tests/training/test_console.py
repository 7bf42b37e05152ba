"""What a person reads of a run on the console is grammatical."""

from __future__ import annotations

import pytest

from pneumolit.training.console import say_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 seconds"), (0.6, "1 second"), (1.4, "1 second"), (1.6, "2 seconds"), (59.6, "1.0 minutes")],
)
def test_one_second_is_no_plural_and_sixty_are_minutes(seconds: float, words: str) -> None:
    assert say_duration(seconds) == words
