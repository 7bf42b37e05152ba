"""The end of a benchmark: a line for people per contender, then one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks._common.machine import describe_machine, describe_versions, today


def print_rates(rates: Mapping[str, float], unit: str) -> None:
    """One line per contender."""
    width = max(map(len, rates))
    for name, rate in rates.items():
        print(f"  {name:<{width}}  {rate:10.4g} {unit}")


def print_ratios(found: Mapping[str, float]) -> None:
    """One line with all ratios."""
    print("  " + ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in found.items()))


def print_json(benchmark: str, results: Mapping[str, Any], device: str = "cpu") -> None:
    """The results with machine, versions and date, in one line."""
    content = {"benchmark": benchmark, **results}
    content |= {"machine": describe_machine(device), "versions": describe_versions(), "date": today()}
    print(json.dumps(content), flush=True)
