from __future__ import annotations

from typing import Any

from pneumolit.report.tables import (
    Table,
    class_table,
    headline_table,
    rule_table,
    transfer_table,
    with_interval,
)


def test_values_and_intervals_are_printed_with_three_digits() -> None:
    assert with_interval(0.9417, [0.9207, 0.96]) == "0.942 [0.921, 0.960]"
    assert with_interval(None, None) == "n/a"
    assert with_interval(0.5, None) == "0.500"


def test_a_markdown_table_keeps_its_columns_whatever_a_cell_holds() -> None:
    text = Table(("a", "b"), (("x|y\nz", "1"),)).markdown()
    assert text == "| a | b |\n| --- | ---: |\n| x\\|y z | 1 |\n"


def test_tables_print_the_numbers_of_the_summary(metrics: dict[str, Any]) -> None:
    primary = metrics["rules"]["primary"]
    interval = metrics["intervals"]["rules"]["primary"]["sensitivity"]
    assert {row[0]: row[1] for row in headline_table(metrics).rows}["sensitivity"] == with_interval(
        primary["sensitivity"], interval
    )
    first = rule_table(metrics).rows[0]
    assert first[0] == "primary"
    assert first[-4:] == tuple(str(count) for row in primary["confusion"] for count in row)
    assert [row[0] for row in class_table(metrics).rows] == metrics["classes"]


def test_the_transfer_table_gives_found_minus_promised(metrics: dict[str, Any]) -> None:
    changed = {**metrics, "rules": {"youden": {**metrics["rules"]["youden"], "sensitivity": 0.9}}}
    changed["rules"]["youden"]["promised"] = {"sensitivity": 0.95, "specificity": None}
    assert transfer_table(changed).rows[0][1:5] == ("0.950", "0.900", "-0.050", "n/a")
