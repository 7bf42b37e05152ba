"""Samplers and pruners by name."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest

from pneumolit.search.strategy import PRUNERS, SAMPLERS, build_pruner, build_sampler, check_strategy, quiet_optuna

TPE, MEDIAN = {"name": "tpe"}, {"name": "median"}


def test_every_name_and_argument_of_the_tables_is_one_of_optuna_s() -> None:
    import optuna

    for module, table in ((optuna.samplers, SAMPLERS), (optuna.pruners, PRUNERS)):
        for kind, arguments in table.values():
            assert set(arguments) <= set(inspect.signature(getattr(module, kind)).parameters)


@pytest.mark.parametrize(
    ("sampler", "pruner", "message"),
    [
        ({"name": "tpr"}, MEDIAN, r"search\.sampler\.name must be one of tpe, .* got 'tpr'; did you mean tpe\?"),
        ("tpe", MEDIAN, r"search\.sampler must be a mapping with a name, one of tpe, random"),
        ({"seed": 0}, MEDIAN, r"search\.sampler must be a mapping with a name"),
        ({"name": "tpe", "seed": -1}, MEDIAN, r"search\.sampler\.seed must be null or a whole number .* got -1"),
        ({"name": "tpe", "seed": True}, MEDIAN, r"search\.sampler\.seed must be"),
        ({"name": "tpe", "n_startup": 5}, MEDIAN, r"n_startup is no argument of tpe; did you mean n_startup_trials\?"),
        ({"name": "random", "gamma": 1}, MEDIAN, r"gamma is no argument of random \(it has seed\)"),
        (TPE, {"name": "hyper"}, r"search\.pruner\.name must be .* got 'hyper'; did you mean hyperband\?"),
        (TPE, {"name": "none", "lower": 1}, r"search\.pruner\.lower is no argument of none \(it has none\)"),
    ],
)
def test_a_wrong_name_is_refused_with_what_there_is(sampler: Any, pruner: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_strategy(sampler, pruner)


def test_a_sampler_whose_package_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"search\.sampler\.name=cmaes needs the package cmaes: python -m pip install"):
        check_strategy({"name": "cmaes"}, MEDIAN)
    check_strategy(TPE, MEDIAN)


@pytest.mark.parametrize(
    ("pruner", "message"),
    [
        (
            {"name": "median", "n_startup_trials": "x"},
            r"search\.pruner\.n_startup_trials must be a whole number, got 'x'",
        ),
        ({"name": "median", "n_min_trials": 1.5}, r"search\.pruner\.n_min_trials must be a whole number, got 1\.5"),
        ({"name": "percentile"}, r"search\.pruner cannot be \{\}: .*percentile"),
        ({"name": "percentile", "percentile": 120}, r"search\.pruner cannot be .*Percentile must be between"),
        ({"name": "threshold"}, r"search\.pruner cannot be"),
    ],
)
def test_a_value_that_optuna_does_not_take_is_refused_with_its_key(pruner: Any, message: str) -> None:
    check_strategy(TPE, pruner)
    with pytest.raises(ValueError, match=message):
        build_pruner(pruner, 8)


def test_hyperband_knows_the_epochs_from_the_first_trial_on() -> None:
    with quiet_optuna():
        assert build_pruner({"name": "hyperband"}, 27)._max_resource == 27
        assert build_pruner({"name": "hyperband", "max_resource": 9}, 27)._max_resource == 9


def test_an_experimental_argument_warns_nobody_and_the_filters_are_as_before() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with quiet_optuna():
            build_sampler({"name": "qmc", "seed": 0}, 3)
        assert warnings.filters == before
    assert seen == []
