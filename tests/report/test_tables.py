from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pneumolit.evaluation.summary import summarise
from pneumolit.predictions import Predictions
from pneumolit.report.tables import (
    Table,
    calibration_table,
    class_table,
    copies_table,
    headline_table,
    number,
    prevalence_table,
    rule_label,
    rule_table,
    subgroup_table,
    transfer_table,
    with_interval,
)


def test_values_and_intervals_are_printed_with_three_digits() -> None:
    assert with_interval(0.9417, [0.9207, 0.96]) == "0.942 [0.921, 0.960]"
    assert with_interval(None, None) == "n/a"
    assert with_interval(0.5, None) == "0.500"


def test_an_interval_is_never_printed_as_a_point() -> None:
    assert with_interval(0.99983, [0.99951, 0.99994]) == "0.9998 [0.9995, 0.9999]"
    assert with_interval(0.9999, [0.99996, 1.0]) == "0.99990 [0.99996, 1.00000]"
    assert with_interval(0.0, [0.0, 0.0004]) == "0.0000 [0.0000, 0.0004]"
    assert with_interval(0.5, [0.5, 0.5]) == "0.500 [0.500, 0.500]"  # it is one


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


def test_a_rules_key_is_told_as_words() -> None:
    keys = ("primary", "sensitivity_95", "specificity_95", "prevalence_0.05", "half")
    assert [rule_label(key) for key in keys] == [
        *("primary", "sensitivity >= .95", "specificity >= .95"),
        *("prevalence 0.05", "half"),
    ]


def test_sensitivity_by_cause_stands_in_the_headline_with_the_interval_of_its_images(metrics: dict[str, Any]) -> None:
    shown = {row[0]: row[1] for row in headline_table(metrics).rows}
    parts = {part["name"]: part for part in metrics["subgroups"]}
    for cause, word in (("bacteria", "bacterial"), ("virus", "viral")):
        interval = parts[cause]["intervals"]["sensitivity"]
        assert shown[f"sensitivity, {word}"] == with_interval(parts[cause]["sensitivity"], interval)
        assert "[" in shown[f"sensitivity, {word}"]


def test_the_table_of_prevalences_is_that_of_the_headline_rule(metrics: dict[str, Any]) -> None:
    table = prevalence_table(metrics)
    found = metrics["prevalences"]["primary"]
    assert [row[0] for row in table.rows] == ["0.05", "0.10", "0.20", "0.40"]
    for row, numbers in zip(table.rows, found, strict=True):
        for cell, key in zip(row[1:4], ("ppv", "npv", "net_benefit"), strict=True):
            assert cell == with_interval(numbers[key], numbers["intervals"][key])
        # At threshold one half the rule acts from the prevalence on, and calling everybody ill is worth nothing.
        assert row[4:] == (number(0.0), number(numbers["prevalence"]))
    assert len(table.header) == 6


def test_small_prevalences_are_not_rounded_to_one_another(metrics: dict[str, Any]) -> None:
    row = metrics["prevalences"]["primary"][0]
    changed = {**metrics, "prevalences": {"primary": [{**row, "prevalence": p} for p in (0.001, 0.004, 0.125)]}}
    assert [row[0] for row in prevalence_table(changed).rows] == ["0.001", "0.004", "0.125"]


def test_calibration_is_told_as_trained_calibrated_and_at_this_class_mix(metrics: dict[str, Any]) -> None:
    table = calibration_table(metrics)
    assert [row[0] for row in table.rows] == ["as trained", "calibrated", "calibrated, at this class mix"]
    for row, name in zip(table.rows, ("as_trained", "calibrated", "rebased"), strict=True):
        found = metrics["calibration"][name]
        cells = dict(zip(table.header, row, strict=True))
        for column, key in (("slope", "slope"), ("intercept", "intercept"), ("in the large", "in_the_large")):
            assert cells[column] == with_interval(found[key], found["intervals"][key])
        assert (cells["mean"], cells["observed"]) == (number(found["expected"]), number(found["observed"]))
        assert cells["ECE"] == number(found["ece"])
        assert cells["Brier score"] == with_interval(found["brier"], found["intervals"]["brier"])
    # Fitted on these very images, slope and intercept are right up to the smoothing of the fit.
    assert float(table.rows[1][1].split()[0]) == 1 + round(metrics["calibration"]["calibrated"]["slope"] - 1, 3)


def test_rules_that_promise_nothing_make_no_table_of_promises(metrics: dict[str, Any]) -> None:
    nothing = {"promised": {"sensitivity": None, "specificity": None}}
    rules = {name: {**found, **nothing} for name, found in metrics["rules"].items()}
    assert transfer_table(metrics).rows and not transfer_table({**metrics, "rules": rules}).rows


def test_scores_that_separate_the_classes_have_no_slope_in_the_table(
    make_predictions: Callable[..., Predictions],
) -> None:
    apart = make_predictions(np.arange(30) % 3, shift=50.0)
    row = calibration_table(summarise(apart, None, [], num_resamples=2)).rows[0]
    assert row[1:3] == ("n/a", "n/a")


def test_parts_of_the_set_have_a_dash_where_they_lack_a_class(metrics: dict[str, Any]) -> None:
    table = subgroup_table(metrics)
    rows = {row[1]: row for row in table.rows}
    assert list(rows) == ["bacteria", "virus"]
    assert rows["virus"][0] == "cause" and rows["virus"][5] == "-"
    assert all("[" in rows["virus"][column] for column in (4, 6))
    assert table.num_labels == 2 and all(len(row) == len(table.header) for row in table.rows)


def test_the_table_of_copies_sets_both_headlines_side_by_side_with_their_intervals(metrics: dict[str, Any]) -> None:
    whole, without = copies_table(metrics).rows
    assert (whole[1], without[1]) == ("300", str(300 - metrics["num_copies"]))
    assert whole[2] == with_interval(metrics["ranking"]["auroc"], metrics["intervals"]["ranking"]["auroc"])
    found = metrics["without_copies"]
    limits = found["intervals"]["rules"]["primary"]
    assert without[2] == with_interval(found["auroc"], found["intervals"]["auroc"])
    keys = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
    assert without[3:] == tuple(with_interval(found["rules"]["primary"][key], limits[key]) for key in keys)


def test_a_metrics_file_from_before_these_numbers_still_has_its_tables(metrics: dict[str, Any]) -> None:
    newer = ("prevalences", "calibration", "subgroups")
    old = {key: value for key, value in metrics.items() if key not in newer}
    old["without_copies"] = {key: value for key, value in metrics["without_copies"].items() if key != "intervals"}
    assert prevalence_table(old).rows == calibration_table(old).rows == subgroup_table(old).rows == ()
    assert copies_table(old).rows[1][2] == number(metrics["without_copies"]["auroc"])
    virus = metrics["rules"]["primary"]["sensitivity_by_cause"]["virus"]
    assert ("sensitivity, viral", number(virus)) in headline_table(old).rows
