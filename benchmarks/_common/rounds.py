"""Contenders take turns, round after round, so that a busy machine slows all of them; medians count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Round = Callable[[], Mapping[str, Any]]  # runs one round and says what it took: `seconds`, and what else there is


def interleave(
    contenders: Mapping[str, Round], rounds: int, *, is_shown: bool = True
) -> dict[str, list[Mapping[str, Any]]]:
    """A B C A B C ...: the rounds of every contender, printed as they end."""
    results: dict[str, list[Mapping[str, Any]]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        shown = []
        for name, run in contenders.items():
            result = run()
            results[name].append(result)
            shown.append(f"{name} {result['seconds']:.2f} s")
        if is_shown:
            print(f"round {number}/{rounds}: " + ", ".join(shown), flush=True)
    return results


def choose_steps(run: Callable[[int], Mapping[str, Any]], seconds: float) -> tuple[int, float]:
    """Warm a contender up and find how many steps last about as long as wanted.

    Returns:
        (steps >= 1, seconds per step)
    """
    steps = 1
    run(1)  # builds what is built once: its time says nothing of the steps of a round
    while (took := run(steps)["seconds"]) < min(0.5, seconds):
        steps *= 4
    return max(1, math.ceil(seconds * steps / took)), took / steps


def medians(values: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of every contender, to four digits."""
    return {name: float(f"{median(found):.4g}") for name, found in values.items()}


def ratios(rates: Mapping[str, float], pairs: list[tuple[str, str]]) -> dict[str, float]:
    """`a_over_b` for every pair of which both took part."""
    return {f"{a}_over_{b}": round(rates[a] / rates[b], 3) for a, b in pairs if a in rates and b in rates}
