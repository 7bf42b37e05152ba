"""Stages: short forms are written out, what may not change is refused, each stage is a complete configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pneumolit.stage_plan import check_run, expand_stages, plan_stages, refuse_unused

Compose = Callable[..., dict[str, Any]]

OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("optim", "adamax"): {"_target_": "torch.optim.Adamax", "lr": 2e-3},
    ("freeze", "head"): {"policy": "head"},
    ("freeze", "groups"): {"policy": "groups", "last": 1},
}


def expanded(cfg: dict[str, Any], *stages: dict[str, Any]) -> dict[str, Any]:
    return expand_stages({**cfg, "stages": list(stages)}, lambda group, option: OPTIONS[group, option])


@pytest.fixture(scope="module")
def default(compose_config: Compose) -> dict[str, Any]:
    return compose_config()


def test_without_stages_the_run_is_its_own_only_stage(default: dict[str, Any]) -> None:
    (stage,) = plan_stages(default)
    assert stage.cfg == default and stage.start == "" and stage.is_last
    assert [stage.checkpoint(which) for which in ("best", "last")] == ["best", "last"]


def test_option_names_become_their_keys_and_short_names_the_full_ones(default: dict[str, Any]) -> None:
    cfg = expanded(
        default,
        {"freeze": "head", "epochs": 3, "name": "warm"},
        {"optim": "adamax", "lr": 1e-4, "image_size": 160, "batch_size": 16, "start": "last"},
    )
    first, second = plan_stages(cfg)
    assert first.name == "warm" and first.epochs == 3 and first.cfg["freeze"] == {"policy": "head"}
    assert first.cfg["optim"] == default["optim"]
    assert second.cfg["optim"] == {"_target_": "torch.optim.Adamax", "lr": 1e-4}  # nothing of the default AdamW
    assert second.cfg["model"]["image_size"] == 160 and second.cfg["data"]["batch_size"] == 16
    assert second.start == "last" and second.epochs == default["trainer"]["max_epochs"]


def test_single_key_changes_the_group_that_the_stage_or_the_run_has(default: dict[str, Any]) -> None:
    cfg = expanded(default, {"optim.lr": 0.5}, {"freeze": "groups", "freeze.last": 3})
    first, second = plan_stages(cfg)
    assert first.cfg["optim"] == {**default["optim"], "lr": 0.5}
    assert second.cfg["freeze"] == {"policy": "groups", "last": 3}
    assert second.cfg["optim"] == default["optim"]


def test_nested_mapping_says_the_same_as_dots(default: dict[str, Any]) -> None:
    dots = expanded(default, {"callbacks.early_stopping.patience": 3})
    assert expanded(default, {"callbacks": {"early_stopping": {"patience": 3}}}) == dots


def test_writing_out_twice_changes_nothing(default: dict[str, Any]) -> None:
    once = expanded(default, {"freeze": "head", "epochs": 1}, {"optim": "adamax", "lr": 1e-4})
    assert expand_stages(once, lambda group, option: pytest.fail("nothing is left to look up")) == once


def test_every_stage_but_the_last_has_checkpoints_of_its_own(default: dict[str, Any]) -> None:
    names = [stage.checkpoint("best") for stage in plan_stages(expanded(default, {}, {}, {}))]
    assert names == ["stage1_best", "stage2_best", "best"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"backbone": "resnet18"}], r"stage 1: backbone cannot change between stages"),
        ([{}, {"data.seed": 3}], r"stage 2: data\.seed cannot change between stages"),
        ([{"epoch": 3}], r"stage 1: epoch is no key that does anything; did you mean epochs"),
        ([{"start": "best"}], r"stage 1: start has no effect"),
        ([{}, {"start": "first"}], r"stage 2: start must be one of best, last, got 'first'"),
        ([{"lr": 1e-3, "optim.lr": 1e-4}], r"stage 1 sets optim\.lr twice"),
        ([{"freeze": None}], r"stage 1: freeze must be the name of an option or a mapping of its keys, got None"),
        ([{"optim": {"lr": 0.1}}], r"stage 1: optim is a mapping that .* has no _target_; .* write optim\.lr: 0\.1"),
        ([{"freeze": "groups", "last": 2}], r"stage 1: last is no key that does anything; did you mean freeze\.last"),
        ([{"optim.lr.x": 3}], r"optim\.lr\.x is no key that does anything|lr is a value, not a group"),
        ([], r"stages must be null or a list of mappings, got \[\]"),
        (["head"], r"stages must be null or a list of mappings"),
    ],
)
def test_stage_that_cannot_be_is_refused_by_its_number_and_key(
    default: dict[str, Any], stages: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_stages(expand_stages({**default, "stages": stages}, lambda group, option: OPTIONS[group, option]))


def test_key_that_every_stage_sets_has_no_effect_beside_them(default: dict[str, Any]) -> None:
    cfg = expanded(default, {"freeze": "head", "epochs": 1}, {"freeze": "groups", "epochs": 2, "optim.lr": 0.1})
    refuse_unused(cfg, ["optim.lr", "data.seed", "backbone"])
    for key in ("trainer.max_epochs", "freeze", "freeze.last"):
        with pytest.raises(ValueError, match=f"{key} has no effect because every stage sets its own"):
            refuse_unused(cfg, [key])


def test_unsound_value_is_told_with_its_stage(default: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"stage fine: optim\.lr must be a number above 0, got -1"):
        check_run(expanded(default, {}, {"name": "fine", "lr": -1}))


def test_image_larger_than_the_store_is_refused_in_any_stage(default: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"stage 2: model\.image_size=512 is larger than data\.store_size=256"):
        check_run(expanded(default, {}, {"image_size": 512}))
