"""The space of a search: read, refused, drawn from, written as overrides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.search.space import (
    Choices,
    Range,
    describe_space,
    override_value,
    overrides_of,
    probing_points,
    read_space,
    suggest_point,
)
from pneumolit.search.strategy import quiet_optuna


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


def test_nested_and_dotted_keys_say_the_same_and_a_group_has_choices_beside_its_keys() -> None:
    nested = {"optim": {"choices": ["adamw", "sgd"], "lr": {"low": 1e-4, "high": 1e-2, "log": True}}}
    dotted = {"optim": {"choices": ["adamw", "sgd"]}, "optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    assert read_space(nested) == read_space(dotted)
    assert read_space(nested) == (Choices("optim", ("adamw", "sgd")), Range("optim.lr", 1e-4, 1e-2, None, True))


def test_what_is_null_is_left_out() -> None:
    content = {
        "optim": {"choices": None, "lr": {"low": 1, "high": 2, "step": None}, "weight_decay": None},
        "model": None,
    }
    assert read_space(content) == (Range("optim.lr", 1, 2),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"search\.space must be a mapping .* got None"),
        ({}, r"search\.space is empty; give a key at least"),
        ({"optim": {"lr": None}}, r"search\.space is empty"),
        ({"optim": {"lr": 3}}, r"search\.space\.optim\.lr must be a mapping such as .* got 3"),
        ({"optim.lr": {"low": 1, "hih": 2}}, r"search\.space\.optim\.lr\.hih must be .* got 2; did you mean high\?"),
        ({"optim.lr": {"low": 1}}, r"search\.space\.optim\.lr has no high"),
        ({"optim.lr": {"low": "a", "high": 2}}, r"optim\.lr\.low must be a number, got 'a'"),
        ({"optim.lr": {"low": True, "high": 2}}, r"optim\.lr\.low must be a number, got True"),
        ({"optim.lr": {"low": 1, "high": float("inf")}}, r"optim\.lr\.high must be a number, got inf"),
        ({"optim.lr": {"low": 2, "high": 2}}, r"optim\.lr\.high must be above low=2, got 2"),
        ({"optim.lr": {"low": 0, "high": 2, "log": True}}, r"optim\.lr\.low must be above 0 where log is true, got 0"),
        ({"optim.lr": {"low": 1, "high": 2, "log": 1}}, r"optim\.lr\.log must be true or false, got 1"),
        ({"optim.lr": {"low": 1, "high": 9, "log": True, "step": 2}}, r"optim\.lr has step and log"),
        ({"optim.lr": {"low": 0, "high": 1, "step": 0.3}}, r"optim\.lr\.step must go a whole number .* got 0\.3"),
        ({"optim.lr": {"low": 0, "high": 1, "step": -0.5}}, r"optim\.lr\.step must go a whole number"),
        ({"optim": {"choices": ["sgd"]}}, r"optim\.choices must be a list of at least two values, got \['sgd'\]"),
        ({"optim": {"choices": "adamw"}}, r"optim\.choices must be a list of at least two values, got 'adamw'"),
        ({"optim": {"choices": ["sgd", "adam", "sgd"]}}, r"optim\.choices names 'sgd' twice"),
        ({"a": {"choices": [1, True]}}, r"a\.choices names True twice"),  # one number to Python and to Optuna
        ({"optim.lr": {"low": 1, "choices": [1, 2]}}, r"optim\.lr has choices and low; give either"),
        ({"optim.lr": {"low": 1, "high": 2}, "optim": {"lr": {"low": 1, "high": 2}}}, r"names optim\.lr twice"),
        ({"data.seed": {"choices": [0, 1]}}, r"data\.seed would change the images that trials are scored on"),
        ({"data": {"choices": ["demo", "manifest"]}}, r"search\.space\.data would change the images"),
        ({"experiment": {"choices": ["best", "demo"]}}, r"search\.space\.experiment would take recipes whose images"),
        ({"test": {"choices": [True, False]}}, r"search\.space\.test is no setting of a model"),
        ({"search.sampler.name": {"choices": ["tpe", "gp"]}}, r"search\.sampler\.name is no setting of a model"),
    ],
)
def test_an_entry_that_is_no_axis_is_refused_with_its_key(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_space(content)
    assert "\n" not in str(error.value)


def test_points_are_within_the_bounds_on_the_steps_and_of_the_right_kind() -> None:
    import optuna

    axes = read_space(
        {
            "a": {"low": 1e-4, "high": 1e-2, "log": True},
            "b": {"low": 0.0, "high": 0.4, "step": 0.1},
            "c": {"low": 1, "high": 9, "step": 4},
            "d": {"low": 16, "high": 256, "log": True},
            "e": {"choices": [[0.7, 1.4], None, {"x": 1}, "adamw", False]},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [suggest_point(axes, study.ask()) for _ in range(60)]
    assert all(1e-4 <= point["a"] <= 1e-2 for point in points)
    assert {point["b"] for point in points} == {0.0, 0.1, 0.2, 0.3, 0.4}  # and no 0.30000000000000004
    assert {point["c"] for point in points} == {1, 5, 9} and all(isinstance(p["d"], int) for p in points)
    assert {override_value(p["e"]) for p in points} == {"[0.7,1.4]", "null", "{x:1}", "adamw", "false"}
    small = sum(point["a"] < 1e-3 for point in points)
    assert 20 <= small <= 40  # half of the decades


@given(
    st.recursive(
        st.sampled_from([None, True, False, "null", "True", "nan", "inf", "1e5"]) | st.integers(-(10**9), 10**9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("abz09 _-./'\\,:[]{}=$\"#+~\t", max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
)  # fmt: skip
def test_a_value_survives_the_grammar_of_overrides(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([f"key={override_value(value)}"])
    assert _plain(parsed.value()) == value


def _plain(value: Any) -> Any:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.text if isinstance(value, QuotedString) else value


def test_a_point_is_the_command_line_that_train_would_get() -> None:
    axes = read_space(
        {"optim": {"choices": ["adamw", "sgd"]}, "+optim.betas": {"choices": [[0.9, 0.99], [0.9, 0.999]]}}
    )
    assert overrides_of(axes, {"optim": "sgd", "optim.betas": [0.9, 0.99]}) == ["optim=sgd", "+optim.betas=[0.9,0.99]"]


def test_few_combinations_are_all_probed_and_of_many_each_value_beside_both_ends() -> None:
    few = read_space({"a": {"low": 0, "high": 1}, "b": {"choices": ["x", "y", "z"]}})
    assert len(probing_points(few)) == 6
    many = read_space({name: {"choices": [1, 2, 3]} for name in "abcd"})
    points = probing_points(many)
    assert len(points) == 18 and len({tuple(point.values()) for point in points}) == 18
    for name in "abcd":
        for value in (1, 2, 3):
            rest = [{k: v for k, v in point.items() if k != name} for point in points if point[name] == value]
            assert any(set(r.values()) == {1} for r in rest) and any(set(r.values()) == {3} for r in rest)


def test_whole_bounds_are_said_to_give_whole_numbers_and_points_tried_first_are_as_a_trial_draws_them() -> None:
    axes = read_space({"loss.gamma": {"low": 0, "high": 5}, "data.batch_size": {"low": 16, "high": 64, "step": 16.0}})
    assert describe_space(axes) == {"loss.gamma": "0 to 5, whole numbers", "data.batch_size": "16 to 64 in steps of 16"}
    tried = {override for point in probing_points(axes) for override in overrides_of(axes, point)}
    assert {"loss.gamma=0", "data.batch_size=16.0"} <= tried and "data.batch_size=16" not in tried
