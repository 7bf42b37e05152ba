"""Is a configuration sound? All problems at once, each with its key and value."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.config import SCHEMA, check_config, configuration_hash, flatten, loggable_metrics

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def default(compose_config: Compose) -> dict[str, Any]:
    return compose_config()


def changed(cfg: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with other values; `a__b` stands for `a.b`."""
    cfg = copy.deepcopy(cfg)
    for name, value in changes.items():
        *path, leaf = name.split("__")
        place = cfg
        for part in path:
            place = place[part]
        place[leaf] = value
    return cfg


def test_default_configuration_is_sound_and_every_key_has_a_rule(default: dict[str, Any]) -> None:
    check_config(default)
    open_groups = ("optim.", "augment.", "freeze.", "loss.", "scheduler.")
    ours = ("resume", "run_dir")  # of the command, not of the run
    assert [k for k in flatten(default) if k not in SCHEMA and not k.startswith(open_groups) and k not in ours] == []


BAD = [
    ("data.val_fraction", 1.5), ("data.val_fraction", 0), ("data.val_fraction", 1), ("data.val_fraction", "0.1"),
    ("data.holdout_fraction", 1.0), ("data.holdout_fraction", -0.1), ("data.resplit", [0.5, 0.5, 0.5]),
    ("data.resplit", [0.8, 0.2]), ("data.resplit", [1.0, 0.0, 0.0]), ("data.folds", 1), ("data.fold", -1),
    ("data.batch_size", 0), ("data.batch_size", True), ("data.batch_size", 8.5), ("data.target", "cuase"),
    ("data.balance", "smapler"), ("data.normalize", "x"), ("data.store_size", 8), ("data.positive", "PNEUMONIA"),
    ("model.in_chans", 2), ("model.image_size", 4), ("model.drop_rate", 1), ("model.drop_rate", -0.1),
    ("model.pretrained", "yes"), ("loss.label_smoothing", 1.0), ("loss.class_weight", "balancd"),
    ("optim.lr", 0), ("optim.lr", -1e-3), ("optim.lr", "fast"), ("optim.weight_decay", -1),
    ("optim.weight_decay", float("inf")), ("optim.momentum", 2), ("optim.momentum", 1), ("optim.momentum", -0.1),
    ("optim.alpha", 1), ("optim.dampening", 1.5), ("optim.betas", [0.9, 1.0]), ("optim.betas", 0.9), ("optim.eps", 0),
    ("optim.eps", [None, -1]), ("optim.nesterov", 7), ("optim.amsgrad", "yes"), ("data.root", ""), ("cache_dir", ""),
    ("scheduler.warmup_fraction", 1), ("scheduler.final_fraction", 1.1), ("callbacks.ema.decay", 1),
    ("callbacks.ema.decay", 0), ("callbacks.early_stopping.patience", 0),
    ("callbacks.checkpoint.use", "first"), ("callbacks.checkpoint.also", "val/loss"),
    ("callbacks.swa.start_fraction", 1),
    ("model.head", "deep"), ("model.hidden", 0), ("model.pool", "mean"), ("model.bn_inference", "eval"),
    ("data.num_workers", -1), ("data.num_workers", 65), ("optim.layer_decay", 0), ("optim.layer_decay", 1.5),
    ("optim.backbone_lr_scale", -1),
    ("trainer.accumulate_grad_batches", 0), ("trainer.auto_batch_size", 1), ("augment.cutmix_alpha", -1), ("stages", 3),
    ("trainer.max_epochs", 0), ("trainer.devices", 0), ("trainer.devices", "all"),
    ("trainer.devices", True), ("trainer.devices", 1.5), ("trainer.strategy", "fsdp"),
    ("trainer.gradient_clip_val", -1), ("trainer.limit_train_batches", 0), ("augment.crop_scale", [1.0, 0.5]),
    ("augment.crop_scale", [0.5]), ("augment.mixup_alpha", -1), ("seed", -1), ("seed", 2**32), ("precision", "fp8"),
    ("test", 1), ("backbone", ""), ("backbone", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{k}={v}" for k, v in BAD])
def test_value_outside_its_range_is_refused_with_key_and_value(default: dict[str, Any], key: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        check_config(changed(default, **{key.replace(".", "__"): value}))
    assert f"{key} must be" in str(caught.value)
    assert f"got {value!r}" in str(caught.value)


GOOD = [
    ("seed", 0), ("data.resplit", [0.64, 0.16, 0.2]), ("loss.class_weight", None), ("model.weights", "w.pth"),
    ("callbacks.ema.decay", None), ("data.root", "/a=b,c"), ("data.holdout_fraction", 0), ("data.folds", 2),
    ("augment.crop_scale", [1, 1]), ("optim.lr", 1), ("trainer.gradient_clip_val", 0.5), ("optim.momentum", 0),
    ("optim.betas", [0.9, 0.99, 0]), ("optim.eps", [None, 1e-3]), ("optim.dampening", 1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), GOOD, ids=[f"{k}={v}" for k, v in GOOD])
def test_value_inside_its_range_is_taken(default: dict[str, Any], key: str, value: Any) -> None:
    check_config(changed(default, **{key.replace(".", "__"): value}))


@pytest.mark.parametrize("key", ["optim.weight_decay", "loss.class_weight", "optim.lr", "seed"])
def test_mapping_where_a_value_belongs_is_refused(default: dict[str, Any], key: str) -> None:
    # Its inner keys were once taken for further arguments, and the value for one that is not there.
    with pytest.raises(ValueError, match=rf"^{key} must be .*, got a mapping with the key {key}\.a$"):
        check_config(changed(default, **{key.replace(".", "__"): {"a": 1}}))


def test_all_problems_stand_in_one_message(default: dict[str, Any]) -> None:
    bad = changed(default, data__val_fraction=1.5, optim__lr=0, trainer__max_epochs=-3)
    bad["data"]["val_fracton"] = 0.1
    with pytest.raises(ValueError, match="the configuration has problems") as caught:
        check_config(bad)
    for part in ("data.val_fraction", "1.5", "optim.lr", "trainer.max_epochs", "-3", "data.val_fracton"):
        assert part in str(caught.value)


def test_unknown_key_offers_the_nearest(default: dict[str, Any]) -> None:
    bad = changed(default)
    bad["model"]["image_sizes"] = 64
    with pytest.raises(ValueError, match=r"model\.image_sizes is no key .* did you mean model\.image_size"):
        check_config(bad)


def test_missing_key_is_named(default: dict[str, Any]) -> None:
    bad = changed(default)
    del bad["data"]["seed"]
    with pytest.raises(ValueError, match=r"data\.seed is missing"):
        check_config(bad)


def test_monitor_that_nobody_logs_is_refused_with_the_nearest(default: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"monitor=val/auc is logged by nobody; did you mean val/auroc\?"):
        check_config(changed(default, callbacks__checkpoint__monitor="val/auc"))
    for name, changes in (("stress/auroc", {"data__stress": False}), ("block/auroc", {})):
        with pytest.raises(ValueError, match=f"{name} is logged by nobody"):
            check_config(changed(default, callbacks__checkpoint__monitor=name, **changes))
    check_config(changed(default, callbacks__checkpoint__monitor="block/auroc", data__holdout_fraction=0.2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"callbacks__checkpoint__also": ["val/loss", "val_acc"]}, r"callbacks\.checkpoint\.also=val_acc is logged by"),
        (
            {"scheduler": {"name": "plateau", "monitor": "val/los"}},
            r"scheduler\.monitor=val/los .* did you mean val/loss",
        ),
        (
            {"callbacks__early_stopping__patience": 3, "callbacks__early_stopping__monitor": "acc"},
            r"callbacks\.early_stopping\.monitor=acc is logged by nobody",
        ),
    ],
)
def test_every_key_that_names_a_metric_is_checked(
    default: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(changed(default, **changes))


@pytest.mark.parametrize("patience", [3, 4])
def test_early_stopping_that_leaves_a_plateau_schedule_no_time_is_refused(
    default: dict[str, Any], patience: int
) -> None:
    plateau = {"name": "plateau", "monitor": "val/loss", "patience": 3}
    with pytest.raises(ValueError, match=rf"early_stopping\.patience={patience} stops .* set .*patience=5 or more"):
        check_config(changed(default, scheduler=plateau, callbacks__early_stopping__patience=patience))
    check_config(changed(default, scheduler=plateau, callbacks__early_stopping__patience=5))
    check_config(changed(default, scheduler=plateau))


def test_monitors_that_are_offered_are_those_that_a_run_really_logs(
    tiny_config: Compose, small_run: Any, other_run: Any
) -> None:
    for run, overrides in ((small_run, ()), (other_run, ("data.stress=false", "data.holdout_fraction=0.2"))):
        header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
        assert set(loggable_metrics(flatten(tiny_config(*overrides)))) == {name for name in header if "/" in name}


NO_EFFECT: list[tuple[dict[str, Any], str]] = [
    (
        {"data__val_fraction": 0.2, "data__folds": 5},
        r"data\.val_fraction=0\.2 has no effect .* data\.folds decides",
    ),
    (
        {"data__carve": "blocks", "data__resplit": [0.6, 0.2, 0.2]},
        r"data\.carve=blocks has no effect because data\.resplit decides the split",
    ),
    ({"data__stratify": False, "data__folds": 5}, r"data\.stratify=False has no effect because folds are always"),
    (
        {"data__stratify": False, "data__split_file": "s.csv"},
        r"data\.stratify=False has no effect because data\.split_file decides the split",
    ),
    ({"data__stratify": False, "data__carve": "blocks"}, r"data\.stratify=False .* data\.carve=blocks draws nothing"),
    ({"data__demo_seed": 3}, r"data\.demo_seed=3 has no effect because data is not demo"),
    (
        {"data__patient_key": "image", "data__source": "pneumoniamnist"},
        r"data\.patient_key=image has no effect because pneumoniamnist tells no patients",
    ),
    ({"data__holdout_blocks": 2}, r"data\.holdout_blocks=2 .* data\.holdout_fraction=0 sets no block aside"),
    ({"distill__share": 0.3}, r"distill\.share=0\.3 has no effect because distill\.teacher names no predictions"),
    ({"distill__temperature": 2.0}, r"distill\.temperature=2\.0 has no effect because distill\.teacher names no"),
    (
        {"logger__images_every": 2, "logger__tensorboard": False},
        r"logger\.images_every=2 has no effect because logger\.tensorboard=false",
    ),
    (
        {"logger__projector": True, "logger__tensorboard": False},
        r"logger\.projector=True has no effect because logger\.tensorboard=false",
    ),
    ({"data__fold": 2}, r"data\.fold=2 has no effect because data\.folds is not set"),
    (
        {"data__patient_key": "number", "data__source": "manifest", "data__manifest": "x.csv"},
        r"data\.patient_key=number has no effect because a manifest tells its patients itself",
    ),
    ({"data__manifest": "x.csv"}, r"data\.manifest=x\.csv has no effect because data is not manifest"),
    (
        {"model__weights": "w.pth", "model__pretrained": False},
        r"model\.weights=w\.pth has no effect because model\.pretrained=false",
    ),
    ({"callbacks__early_stopping__min_delta": 0.1}, r"min_delta=0\.1 has no effect"),
    ({"callbacks__early_stopping__monitor": "val/loss"}, r"early_stopping\.monitor=val/loss has no effect"),
    ({"model__hidden": 64}, r"model\.hidden=64 has no effect because model\.head is not mlp"),
    (
        {"loss": {"name": "logit_adjusted", "tau": 1.0}},
        r"loss=logit_adjusted has no effect because data\.balance=sampler evens the class mix already",
    ),
    (
        {"data__holdout_fraction": 0.1, "data__resplit": [0.6, 0.2, 0.2]},
        r"data\.holdout_fraction=0\.1 has no effect because data\.resplit",
    ),
    (
        {"trainer__feature_views": 4, "trainer__cache_features": False, "freeze__policy": "head"},
        r"trainer\.feature_views=4 has no effect because trainer\.cache_features=false",
    ),
    (
        {"data__holdout_fraction": 0.1, "data__split_file": "split.csv"},
        r"data\.holdout_fraction=0\.1 has no effect because data\.split_file",
    ),
]


@pytest.mark.parametrize(("changes", "message"), NO_EFFECT, ids=[m for _, m in NO_EFFECT])
def test_key_without_effect_is_refused(default: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(changed(default, **changes))


def test_what_has_no_effect_elsewhere_is_taken_where_it_has_one(default: dict[str, Any]) -> None:
    check_config(changed(default, data__stratify=False, data__resplit=[0.6, 0.2, 0.2]))
    check_config(changed(default, data__carve="blocks", data__val_fraction=0.2, logger__images_every=2))
    check_config(changed(default, data__carve="blocks", data__folds=5))
    check_config(changed(default, data__holdout_fraction=0.1, data__holdout_blocks=2, model__mixstyle_prob=0.5))


def test_defaults_without_effect_are_taken(default: dict[str, Any]) -> None:
    check_config(changed(default, data__folds=3, model__pretrained=False, data__resplit=None))
    check_config(changed(default, data__resplit=[0.6, 0.2, 0.2]))  # val_fraction keeps its default


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"data__balance": "sampler", "loss__class_weight": "balanced"}, "both correct the class mix"),
    ({"data__balance": "undersample", "loss__class_weight": [1, 2, 3]}, "both correct the class mix"),
    ({"data__folds": 5, "data__resplit": [0.6, 0.2, 0.2]}, r"data\.folds and data\.resplit each decide the split"),
    ({"data__folds": 5, "data__split_file": "s.csv"}, r"data\.folds and data\.split_file each decide"),
    (
        {"callbacks__swa__start_fraction": 0.5},
        r"ema\.decay=0\.998 and callbacks\.swa\.start_fraction=0\.5 both average",
    ),
    (
        {"model__bn_inference": "drawn_batch", "trainer__auto_batch_size": True},
        r"trainer\.auto_batch_size=true looks for the size",
    ),
    ({"model__mixstyle_prob": 0.5, "trainer__devices": 2}, r"model\.mixstyle_prob=0\.5 cannot be together with 2 proc"),
    (
        {"data__batch_size": 33, "trainer__devices": 2},
        r"data\.batch_size=33 cannot .* set data\.batch_size=32",
    ),
    ({"data__folds": 5, "data__fold": 5}, r"data\.fold must be below data\.folds=5, got 5"),
    (
        {"model__image_size": 224, "model__train_size": 300},
        r"model\.train_size=300 is larger than data\.store_size=256",
    ),
    ({"trainer__cache_features": True}, r"trainer\.cache_features=True, but freeze=none trains the backbone"),
    ({"trainer__feature_views": 4}, r"trainer\.feature_views=4, but freeze=none trains the backbone"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS, ids=[m for _, m in CONTRADICTIONS])
def test_contradicting_choices_are_refused(default: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(changed(default, **changes))


def test_hash_knows_decisions_and_not_seeds_paths_devices_or_logging(default: dict[str, Any]) -> None:
    same = changed(
        default, seed=3, test=True, data__root="/x", cache_dir="/y", output_dir="z", logger__tensorboard=False,
        trainer__progress_bar=False, trainer__accelerator="cpu", report__language="ko",
    )  # fmt: skip
    assert configuration_hash(same) == configuration_hash(default)
    for changes in ({"optim__lr": 0.1}, {"data__seed": 1}, {"backbone": "resnet18"}, {"model__image_size": 64}):
        assert configuration_hash(changed(default, **changes)) != configuration_hash(default)
    assert configuration_hash(dict(reversed(list(default.items())))) == configuration_hash(default)


def test_what_a_teacher_says_is_part_of_the_configuration_and_where_it_lies_is_not(
    default: dict[str, Any], tmp_path: Path
) -> None:
    def taught(folder: str, *texts: str) -> str:
        for place, text in enumerate(texts):
            (tmp_path / folder / str(place)).mkdir(parents=True)
            (tmp_path / folder / str(place) / "predictions.csv").write_text(text)
        pattern = str(tmp_path / folder / "*" / "predictions.csv")
        return configuration_hash({**default, "distill": {**default["distill"], "teacher": pattern}})

    assert taught("a", "one", "two") == taught("b", "one", "two")
    assert len({taught("c", "one"), taught("d", "one", "two"), taught("e", "other"), configuration_hash(default)}) == 4
