"""Is a composed configuration sound? All problems in one error, before data or weights are touched."""

from __future__ import annotations

import difflib
import functools
import glob
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Where the YAML files are: packed beside the modules in a wheel, at the top level in a checkout.
_PACKED = Path(__file__).resolve().parent / "conf"
CONFIG_DIR = _PACKED if _PACKED.is_dir() else Path(__file__).resolve().parent.parent / "conf"


class Rule(NamedTuple):
    """What a key may hold: a predicate and its words."""

    holds: Callable[[Any], bool]
    words: str


def _number(low: float, high: float = float("inf"), *, is_open: bool = False, is_whole: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
            return False
        return low < value < high if is_open else low <= value <= high and value != float("inf")

    kind = "a whole number" if is_whole else "a number"
    if is_open:
        return Rule(holds, f"{kind} strictly between {low} and {high}")
    return Rule(holds, f"{kind} of at least {low}" if high == float("inf") else f"{kind} from {low} to {high}")


def _one_of(*names: str) -> Rule:
    return Rule(lambda value: value in names, "one of " + ", ".join(names))


def _or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"null or {rule.words}")


def _pair(low: float, high: float = float("inf")) -> Rule:
    inner = _number(low, high)
    return Rule(
        lambda value: (
            isinstance(value, list) and len(value) == 2 and all(map(inner.holds, value)) and value[0] <= value[1]
        ),
        f"two ascending numbers [low, high], each {inner.words.removeprefix('a number ')}",
    )


_FLAG = Rule(lambda value: isinstance(value, bool), "true or false")
_AUTO_OR_FLAG = Rule(lambda value: value == "auto" or isinstance(value, bool), "auto, true or false")
_TEXT = Rule(lambda value: isinstance(value, str) and bool(value), "a text")


def _can_be_path(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return False
    try:
        Path(str(value)).expanduser().is_file()
    except (OSError, RuntimeError):
        return False
    return True


_PATH = _or_null(Rule(_can_be_path, "a path that the system takes: no unknown ~user, no name of over 255 bytes"))
_SHARE = _number(0, 1, is_open=True)
_CHANCE = _number(0, 1)
_SIDE = _number(16, 2048, is_whole=True)
_COUNT = _number(1, is_whole=True)
_NEVER = Rule(lambda value: value is False, "false: steps of the optimizer are neither recorded nor differentiated")
_BELOW_1 = Rule(lambda value: _CHANCE.holds(value) and value < 1, "a number from 0 to below 1")
_POSITIVE = Rule(_number(0, float("inf"), is_open=True).holds, "a number above 0")

SCHEMA: dict[str, Rule] = {
    "backbone": _TEXT,
    "seed": _number(0, 2**32 - 1, is_whole=True),
    "test": _FLAG,
    "stages": Rule(lambda v: v is None or isinstance(v, list), "null or a list of stages"),
    "precision": _one_of("auto", "float32", "bf16", "fp16"),
    "output_dir": _TEXT,
    "cache_dir": _PATH,
    "model.pretrained": _FLAG,
    "model.weights": _PATH,
    "model.allow_download": _FLAG,
    "model.image_size": _SIDE,
    "model.train_size": Rule(lambda v: v is None or _SIDE.holds(v), f"null or {_SIDE.words}"),
    "model.in_chans": Rule(lambda value: _COUNT.holds(value) and value in (1, 3), "1 or 3"),
    "model.drop_rate": _BELOW_1,
    "model.mixstyle_prob": _CHANCE,
    "model.head": _one_of("linear", "mlp"),
    "model.hidden": _number(1, 65_536, is_whole=True),
    "model.pool": _one_of("default", "avg", "max", "flatten"),
    "model.bn_inference": _one_of("running", "batch", "drawn_batch"),
    "distill.teacher": _PATH,
    "distill.share": _SHARE,
    "distill.temperature": _POSITIVE,
    "data.source": _one_of("kaggle", "folder", "manifest", "demo", "pneumoniamnist"),
    "data.root": _PATH,
    "data.manifest": _PATH,
    "data.demo_seed": _number(0, 2**32 - 1, is_whole=True),
    "data.target": _one_of("auto", "binary", "cause", "classes"),
    "data.positive": Rule(
        lambda v: v is None or (isinstance(v, list) and all(isinstance(name, str | int | float) for name in v)),
        "null or a list of class names",
    ),
    "data.patient_key": _one_of("full", "prefix", "class_number", "number", "image"),
    "data.duplicates": _one_of("drop", "keep"),
    "data.on_bad_image": _one_of("stop", "skip"),
    "data.val_fraction": Rule(_SHARE.holds, "strictly between 0 and 1 (0.1 to 0.2 is usual for this set)"),
    "data.seed": _number(0, 2**32 - 2, is_whole=True),
    "data.folds": _or_null(_number(2, is_whole=True)),
    "data.fold": _number(0, is_whole=True),
    "data.carve": _one_of("random", "blocks", "official"),
    "data.stratify": _FLAG,
    "data.val_augment": _FLAG,
    "data.holdout_fraction": Rule(lambda v: v == 0 or _SHARE.holds(v), "0 or strictly between 0 and 1"),
    "data.train_fraction": Rule(lambda v: v == 1 or _SHARE.holds(v), "1 or strictly between 0 and 1"),
    "data.holdout_blocks": _number(1, 3, is_whole=True),
    "data.resplit": Rule(
        lambda v: (
            v is None or (isinstance(v, list) and len(v) == 3 and all(map(_SHARE.holds, v)) and abs(sum(v) - 1) < 1e-6)
        ),
        "null or three positive fractions [train, val, test] that sum to 1",
    ),
    "data.split_file": _PATH,
    "data.balance": _one_of("none", "sampler", "series", "undersample"),
    "data.normalize": _one_of("weights", "unit", "imagenet"),
    "data.stress": _FLAG,
    "data.batch_size": _number(1, is_whole=True),
    "data.num_workers": _number(0, 64, is_whole=True),  # thousands would take all memory of the machine
    "data.on_device": _one_of("auto", "never"),
    "data.store_size": _number(16, 4096, is_whole=True),
    "augment.crop_scale": _pair(1e-3, 1),
    "augment.crop_ratio": _pair(0.1, 10),
    "augment.mixup_alpha": _number(0),
    "augment.cutmix_alpha": _number(0),
    "freeze.policy": _TEXT,
    "loss.name": _TEXT,
    "loss.label_smoothing": _BELOW_1,
    "loss.class_weight": Rule(
        lambda v: v in (None, "none", "balanced") or (isinstance(v, list) and all(map(_POSITIVE.holds, v))),
        "none, balanced or one positive number per class",
    ),
    "optim._target_": _TEXT,
    "optim.lr": _POSITIVE,
    "optim.weight_decay": _number(0),
    "optim.momentum": _BELOW_1,
    "optim.dampening": _CHANCE,
    "optim.alpha": _BELOW_1,
    "optim.betas": Rule(
        lambda v: isinstance(v, list) and all(map(_BELOW_1.holds, v)), "a list of numbers, each from 0 to below 1"
    ),
    "optim.eps": Rule(  # Adafactor has two, of which the first may be null
        lambda v: all(e is None or _POSITIVE.holds(e) for e in (v if isinstance(v, list) else [v])), "a number above 0"
    ),
    "optim.nesterov": _FLAG,
    "optim.centered": _FLAG,
    "optim.amsgrad": _FLAG,
    "optim.fused": _or_null(_FLAG),
    "optim.foreach": _or_null(_FLAG),
    "optim.capturable": _NEVER,
    "optim.differentiable": _NEVER,
    "optim.backbone_lr_scale": _POSITIVE,
    "optim.layer_decay": _or_null(Rule(lambda v: _CHANCE.holds(v) and v > 0, "a number above 0, at most 1")),
    "scheduler.name": _TEXT,
    "scheduler.warmup_fraction": _BELOW_1,
    "scheduler.final_fraction": _CHANCE,
    "callbacks.checkpoint.monitor": _TEXT,
    "callbacks.checkpoint.also": Rule(
        lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v), "a list of logged metrics"
    ),
    "callbacks.checkpoint.use": _one_of("last", "best"),
    "callbacks.early_stopping.monitor": _or_null(_TEXT),
    "callbacks.early_stopping.patience": _or_null(_number(1, is_whole=True)),
    "callbacks.early_stopping.min_delta": _number(0),
    "callbacks.ema.decay": _or_null(Rule(_SHARE.holds, "a number strictly between 0 and 1")),
    "callbacks.swa.start_fraction": _or_null(_BELOW_1),
    "trainer.max_epochs": _number(1, is_whole=True),
    "trainer.accelerator": _TEXT,
    "trainer.devices": Rule(lambda v: v == "auto" or _COUNT.holds(v), "auto or a whole number of at least 1"),
    "trainer.strategy": _one_of("auto", "ddp"),
    "trainer.gradient_clip_val": _or_null(_number(0)),
    "trainer.accumulate_grad_batches": _number(1, is_whole=True),
    "trainer.auto_batch_size": _FLAG,
    "trainer.cache_features": _AUTO_OR_FLAG,
    "trainer.feature_views": _number(0, is_whole=True),
    "trainer.conv_gradients": _one_of("auto", "library"),
    "trainer.compile": _FLAG,
    "trainer.cuda_graphs": _AUTO_OR_FLAG,
    "trainer.limit_train_batches": _or_null(_number(1, is_whole=True)),
    "trainer.progress_bar": _FLAG,
    "report.language": _or_null(_one_of("en", "ko")),
    "logger.tensorboard": _FLAG,
    "logger.images_every": _or_null(_number(0, is_whole=True)),
    "logger.projector": _FLAG,
}
# Groups whose further keys are arguments of the class or function that they configure, checked there.
_OPEN_GROUPS = ("optim.", "augment.", "freeze.", "loss.", "scheduler.", "lesson.")
# Of those groups, what every option has; of the others every key must be there.
_ALWAYS_THERE = ("freeze.policy", "loss.name", "optim._target_", "optim.lr", "scheduler.name")
_PATH_KEYS = (
    "output_dir", "cache_dir", "data.root", "data.manifest", "data.split_file", "model.weights", "distill.teacher",
)  # fmt: skip
# Neither changes what is learned from which data.
_NOT_THE_TASK = (
    *_PATH_KEYS,
    "seed",
    "test",
    "logger.",
    "report.",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.progress_bar",
    "trainer.cache_features",
    "trainer.conv_gradients",
    "trainer.compile",
    "trainer.cuda_graphs",
    "data.on_device",
    "data.num_workers",
)
# None of these changes what a run leaves but its logs: two jobs of a sweep that differ in them alone are one.
_NOT_THE_JOB = (
    *_PATH_KEYS,
    "logger.",
    "report.",
    "model.allow_download",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.progress_bar",
    "trainer.cuda_graphs",
    "data.on_device",
    "data.num_workers",
)


# Keys that were not always there, with what runs did before. They leave hashes of configurations as they were.
_ADDED: dict[str, Any] = {
    "data.stratify": True, "data.val_augment": False, "data.train_fraction": 1, "model.mixstyle_prob": 0.0,
    "distill.teacher": None, "distill.share": 0.5, "distill.temperature": 1.0, "augment.sharpen_prob": 0.0,
    "augment.frame_prob": 0.0,
}  # fmt: skip
_BEFORE = {"data.holdout_blocks": 1, **_ADDED}  # of the first, hashes always knew
# Without effect while the other key is 0, whatever a preset says.
_IDLE = {"augment.sharpen_amount": "augment.sharpen_prob", "augment.frame_width": "augment.frame_prob"}


def filled(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration with the keys that it is too old to know, and what they meant then."""
    full = {key: dict(value) if isinstance(value, Mapping) else value for key, value in cfg.items()}
    for key, meaning in _BEFORE.items():
        group, _, name = key.partition(".")
        if isinstance(full.setdefault(group, {}), dict):
            full[group].setdefault(name, meaning)
    return full


def is_idle(key: str, flat: Mapping[str, Any]) -> bool:
    """Whether a key has no effect because another one is 0 or absent."""
    return key in _IDLE and not flat.get(_IDLE[key])


def flatten(cfg: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def check_config(cfg: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> None:
    """Refuse an unsound training configuration.

    Args:
        cfg: composed and resolved, plain values.
        known: further keys of open groups that exist (for the nearest name in a message).

    Raises:
        ValueError: names every problem at once: key, value, what is allowed.
    """
    flat = flatten(cfg)
    problems = []
    for key, value in flat.items():
        rule, owner = SCHEMA.get(key), key.rpartition(".")[0]
        if owner in SCHEMA:
            problems.append(f"{owner} must be {SCHEMA[owner].words}, got a mapping with the key {key}")
        elif rule is None:
            if not key.startswith(_OPEN_GROUPS):
                near = difflib.get_close_matches(key, [*SCHEMA, *(known or {})], n=2, cutoff=0.6)
                offer = f"; did you mean {' or '.join(near)}?" if near else ""
                if key.partition(".")[0] == "experiment":  # where Hydra files a recipe that does not say its place
                    offer = "; the first line of a recipe must be: # @package _global_"
                problems.append(f"{key} is no key that does anything{offer}")
        elif not rule.holds(value):
            problems.append(f"{key} must be {rule.words}, got {value!r}")
    owners = {key.rpartition(".")[0] for key in flat}
    needed = [key for key in SCHEMA if key in _ALWAYS_THERE or not key.startswith(_OPEN_GROUPS)]
    missing = [key for key in needed if key not in flat and key not in owners]
    problems += [f"{key} is missing" for key in missing]
    if not problems:
        problems = _combinations(flat)
    if problems:
        raise ValueError(
            problems[0]
            if len(problems) == 1
            else "the configuration has problems:\n" + "\n".join(f"  {p}" for p in problems)
        )


def check_values(cfg: Mapping[str, Any]) -> None:
    """Refuse values outside their rules in a configuration that holds only some of the keys.

    Raises:
        ValueError: names every problem at once: key, value, what is allowed.
    """
    problems = [
        f"{key} must be {SCHEMA[key].words}, got {value!r}"
        for key, value in flatten(cfg).items()
        if key in SCHEMA and not SCHEMA[key].holds(value)
    ]
    if problems:
        raise ValueError("\n".join(problems))


def refuse_unknown_keys(place: str, found: Iterable[str], known: Sequence[str]) -> None:
    """Refuse keys that nobody reads.

    Args:
        place: the group that they stand in.
        found: keys of it.
        known: those that there are.

    Raises:
        ValueError: names the first, and the nearest that there is.
    """
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            offer = f"; did you mean {place}.{near[0]}?" if near else ""
            raise ValueError(f"{place}.{key} is no key that does anything{offer} (there are {', '.join(known)})")


def loggable_metrics(flat: Mapping[str, Any]) -> list[str]:
    """Names that a run with this configuration logs once per epoch."""
    blocks = ["block", "block2", "block3"][: flat["data.holdout_blocks"]] if flat["data.holdout_fraction"] else []
    sets = ["val"] + (["stress"] if flat["data.stress"] else []) + blocks
    return [
        "train/loss",
        *(f"{s}/{m}" for s in sets for m in ("loss", "accuracy", "balanced_accuracy", "auroc")),
    ]


def monitor_mode(monitor: str) -> str:
    """Whether a logged metric is better when it is smaller ("min") or larger ("max")."""
    return "min" if monitor.endswith("/loss") else "max"


def scored_epoch(rows: Sequence[Mapping[str, float]], use: str | None, monitor: str | None) -> Mapping[str, float]:
    """The row of metrics.csv of the weights that were scored: the last one, or the first best one of the last stage.

    Args:
        rows: of metrics.csv.
        use: the checkpoint: last or best.
        monitor: that chose the best.

    Returns:
        Empty where there are no rows, or none with the monitored metric.
    """
    if use == "best" and monitor is not None:
        stage = rows[-1].get("stage") if rows else None
        known = [row for row in rows if row.get("stage") == stage and math.isfinite(row.get(monitor, math.nan))]
        choose = min if monitor_mode(monitor) == "min" else max
        return choose(known, key=lambda row: row[monitor]) if known else {}
    return rows[-1] if rows else {}


def choosing_metric(callbacks: Mapping[str, Any], scored: str | None) -> str | None:
    """What the scored epoch, or when to stop, was chosen by; None where a fixed number of epochs ran to its end.

    Args:
        callbacks: of the last stage.
        scored: the checkpoint: last or best.
    """
    checkpoint, stopping = (callbacks.get(key) or {} for key in ("checkpoint", "early_stopping"))
    if scored == "best":
        return checkpoint.get("monitor")
    return None if stopping.get("patience") is None else stopping.get("monitor") or checkpoint.get("monitor")


def _combinations(flat: Mapping[str, Any]) -> list[str]:
    """Choices that contradict each other, and settings that would have no effect."""
    problems = [*_unknown_monitors(flat), *_early_stopping(flat), *_drawn_batches(flat)]
    if flat["data.balance"] != "none" and flat.get("loss.class_weight") not in (None, "none"):
        problems.append(
            f"data.balance={flat['data.balance']} and loss.class_weight={flat['loss.class_weight']} both correct the "
            "class mix; set one of them to none"
        )
    if flat["loss.name"] == "logit_adjusted" and flat["data.balance"] != "none":
        problems.append(
            f"loss=logit_adjusted has no effect because data.balance={flat['data.balance']} evens the class mix "
            "already; set data.balance=none or loss=cross_entropy"
        )
    if flat["callbacks.ema.decay"] is not None and flat["callbacks.swa.start_fraction"] is not None:
        problems.append(
            f"callbacks.ema.decay={flat['callbacks.ema.decay']} and callbacks.swa.start_fraction="
            f"{flat['callbacks.swa.start_fraction']} both average the weights; set one of them to null"
        )
    for key in ("model.image_size", "model.train_size"):
        if (flat[key] or 0) > flat["data.store_size"]:
            problems.append(
                f"{key}={flat[key]} is larger than data.store_size={flat['data.store_size']}, "
                f"so images would be shrunk and enlarged again; set data.store_size={flat[key]} too"
            )
    wish = "trainer.feature_views" if flat["trainer.feature_views"] else "trainer.cache_features"
    if flat["freeze.policy"] == "none" and (flat["trainer.feature_views"] or flat["trainer.cache_features"] is True):
        problems.append(
            f"{wish}={flat[wish]}, but freeze=none trains the backbone, whose features change with every step; set "
            "freeze=head, or leave it out (in stages: set it in those that freeze)"
        )
    for key, holds in (
        ("trainer.compile", flat["trainer.compile"]),
        ("model.mixstyle_prob", flat["model.mixstyle_prob"] > 0),
        ("trainer.accumulate_grad_batches", flat["trainer.accumulate_grad_batches"] > 1),
        ("trainer.auto_batch_size", flat["trainer.auto_batch_size"]),  # which may accumulate
    ):
        if flat["trainer.cuda_graphs"] is True and holds:
            value = str(flat[key]).lower()
            problems.append(f"trainer.cuda_graphs=true cannot be together with {key}={value}; leave one of them out")
    if flat["trainer.devices"] != "auto":
        problems += process_problems(flat, flat["trainer.devices"])
    given = [k for k in ("data.folds", "data.resplit", "data.split_file") if flat[k] is not None]
    if len(given) > 1:
        problems.append(f"{' and '.join(given)} each decide the split; set only one of them")
    if flat["data.folds"] is not None and flat["data.fold"] >= flat["data.folds"]:
        problems.append(f"data.fold must be below data.folds={flat['data.folds']}, got {flat['data.fold']}")
    splitter = given[-1] if given else ""
    for key, is_set, why in (
        ("data.val_fraction", flat["data.val_fraction"] != 0.1 and bool(given), f"{splitter} decides the split"),
        (
            "data.carve",
            flat["data.carve"] != "random" and bool(given) and splitter != "data.folds",
            f"{splitter} decides the split",
        ),
        (
            "data.stratify",
            not flat["data.stratify"] and bool({"data.folds", "data.split_file"} & set(given)),
            "folds are always stratified" if splitter == "data.folds" else f"{splitter} decides the split",
        ),
        (
            "data.stratify",
            not flat["data.stratify"] and flat["data.carve"] == "blocks",
            "data.carve=blocks draws nothing",
        ),
        (
            "data.patient_key",
            flat["data.patient_key"] != "full" and flat["data.source"] == "manifest",
            "a manifest tells its patients itself, in the column patient_id (the default is full)",
        ),
        (
            "data.patient_key",
            flat["data.patient_key"] != "full" and flat["data.source"] == "pneumoniamnist",
            "pneumoniamnist tells no patients (the default is full)",
        ),
        ("data.demo_seed", flat["data.demo_seed"] != 0 and flat["data.source"] != "demo", "data is not demo"),
        (
            "distill.share",
            flat["distill.share"] != 0.5 and flat["distill.teacher"] is None,
            "distill.teacher names no predictions",
        ),
        (
            "distill.temperature",
            flat["distill.temperature"] != 1 and flat["distill.teacher"] is None,
            "distill.teacher names no predictions",
        ),
        ("data.fold", flat["data.fold"] != 0 and flat["data.folds"] is None, "data.folds is not set"),
        (
            "data.manifest",
            flat["data.manifest"] is not None and flat["data.source"] != "manifest",
            "data is not manifest",
        ),
        (
            "model.weights",
            flat["model.weights"] is not None and not flat["model.pretrained"],
            "model.pretrained=false",
        ),
        ("model.hidden", flat["model.hidden"] != 256 and flat["model.head"] != "mlp", "model.head is not mlp"),
        (
            "callbacks.early_stopping.monitor",
            flat["callbacks.early_stopping.monitor"] is not None and flat["callbacks.early_stopping.patience"] is None,
            "callbacks.early_stopping.patience is not set",
        ),
        (
            "callbacks.early_stopping.min_delta",
            flat["callbacks.early_stopping.min_delta"] != 0 and flat["callbacks.early_stopping.patience"] is None,
            "callbacks.early_stopping.patience is not set",
        ),
        (
            "trainer.strategy",
            flat["trainer.strategy"] != "auto" and flat["trainer.devices"] == 1,
            "trainer.devices=1",
        ),
        (
            "trainer.feature_views",
            flat["trainer.feature_views"] > 0 and flat["trainer.cache_features"] is False,
            "trainer.cache_features=false",
        ),
        (
            "logger.images_every",
            bool(flat["logger.images_every"]) and not flat["logger.tensorboard"],
            "logger.tensorboard=false",
        ),
        ("logger.projector", flat["logger.projector"] and not flat["logger.tensorboard"], "logger.tensorboard=false"),
        (
            "data.holdout_fraction",
            bool(flat["data.holdout_fraction"]) and bool({"data.resplit", "data.split_file"} & set(given)),
            f"{splitter} divides everything",
        ),
        (
            "data.holdout_blocks",
            flat["data.holdout_blocks"] > 1 and not flat["data.holdout_fraction"],
            "data.holdout_fraction=0 sets no block aside",
        ),
    ):
        if is_set:
            problems.append(f"{key}={flat[key]} has no effect because {why}; leave one of them out")
    return problems


def process_problems(flat: Mapping[str, Any], count: int) -> list[str]:
    """What of a configuration cannot be where several processes train one model; nothing for one process.

    Args:
        flat: the configuration with dotted keys.
        count: processes, which `trainer.devices=auto` leaves to the machine.
    """
    if count == 1:
        return []
    size, problems = flat["data.batch_size"], []
    if size % count:
        near = max(size // count, 1) * count
        problems.append(
            f"data.batch_size={size} cannot be divided among {count} processes (trainer.devices), which take equal "
            f"parts of every batch; set data.batch_size={near}"
        )
    wishes = (
        ("trainer.auto_batch_size", True, "a batch that fits is looked for by one process alone"),
        ("trainer.cuda_graphs", True, "gradients are averaged over processes within each backward pass"),
        ("trainer.cache_features", True, "a head on stored features trains in seconds in one process"),
    )
    if flat["model.mixstyle_prob"]:
        problems.append(
            f"model.mixstyle_prob={flat['model.mixstyle_prob']} cannot be together with {count} processes "
            "(trainer.devices), each of which sees a part of the batch only; leave one of them out"
        )
    problems += [
        f"{key}=true cannot be together with {count} processes (trainer.devices): {why}; leave one of them out"
        for key, value, why in wishes
        if flat[key] is value
    ]
    if flat["trainer.feature_views"]:
        problems.append(
            f"trainer.feature_views={flat['trainer.feature_views']} cannot be together with {count} processes "
            "(trainer.devices): a head on stored features trains in seconds in one process; leave one of them out"
        )
    return problems


def _unknown_monitors(flat: Mapping[str, Any]) -> list[str]:
    names, problems = loggable_metrics(flat), []
    asked = {key: flat.get(key) for key in ("callbacks.checkpoint.monitor", "callbacks.early_stopping.monitor")}
    asked |= {"callbacks.checkpoint.also": list(flat["callbacks.checkpoint.also"])}
    asked |= {"scheduler.monitor": flat.get("scheduler.monitor")}
    for key, value in asked.items():
        for monitor in value if isinstance(value, list) else [value]:
            if monitor is None or monitor in names:
                continue
            near = difflib.get_close_matches(str(monitor), names, n=1, cutoff=0.5)
            problems.append(
                f"{key}={monitor} is logged by nobody"
                + (f"; did you mean {near[0]}?" if near else "")
                + f" (logged are {', '.join(names)})"
            )
    return problems


def _early_stopping(flat: Mapping[str, Any]) -> list[str]:
    """A plateau schedule lowers the rate too late when the run stops first."""
    patience, waits = flat["callbacks.early_stopping.patience"], flat.get("scheduler.patience")
    if flat["scheduler.name"] != "plateau" or patience is None or not isinstance(waits, int) or patience >= waits + 2:
        return []
    # Measured: the cut comes after `waits` + 1 epochs without improvement and must be used for one.
    return [
        f"callbacks.early_stopping.patience={patience} stops the run before a learning rate that was cut after "
        f"scheduler.patience={waits} is used for an epoch; set callbacks.early_stopping.patience={waits + 2} or more"
    ]


def _drawn_batches(flat: Mapping[str, Any]) -> list[str]:
    """Films are scored in batches of training's size, which a search for one that fits would leave unknown."""
    if flat["model.bn_inference"] != "drawn_batch" or not flat["trainer.auto_batch_size"]:
        return []
    return [
        "trainer.auto_batch_size=true looks for the size of a training batch, which model.bn_inference=drawn_batch "
        "scores films in; leave one of the two out"
    ]


def configuration_hash(cfg: Mapping[str, Any]) -> str:
    """Hash of what was decided: the task configuration without seed, paths, devices and logging."""
    return _settings_hash(cfg, _NOT_THE_TASK)


def job_hash(cfg: Mapping[str, Any]) -> str:
    """Hash of all that a run's result follows from, but for the data: seed and scored test included, places not."""
    return _settings_hash(cfg, _NOT_THE_JOB)


def _settings_hash(cfg: Mapping[str, Any], left_out: tuple[str, ...]) -> str:
    flat = flatten(cfg)
    usual = {k for k, before in _ADDED.items() if k in flat and flat[k] == before}
    task = {
        k: v for k, v in sorted(flat.items()) if not k.startswith(left_out) and k not in usual and not is_idle(k, flat)
    }
    # Which weights and which split are choices, wherever their files lie.
    for key in ("model.weights", "data.split_file"):
        if flat.get(key) is not None and (path := Path(str(flat[key])).expanduser()).is_file():
            found = path.stat()
            task[key] = _content_hash(path.absolute(), found.st_mtime_ns, found.st_size)
    if (teacher := flat.get("distill.teacher")) is not None:
        stats = [(path.absolute(), path.stat()) for path in files_of(str(teacher))]
        task["distill.teacher"] = [_content_hash(path, found.st_mtime_ns, found.st_size) for path, found in stats]
    return hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest()[:12]


def files_of(pattern: str) -> list[Path]:
    """Files that a path, or else a pattern with * and **, names, in order."""
    if (literal := Path(pattern).expanduser()).is_file():
        return [literal]
    found = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 (Path has none for absolute ones)
    return [path for path in map(Path, sorted(found)) if path.is_file()]


@functools.lru_cache(maxsize=64)
def _content_hash(path: Path, modified: int, size: int) -> str:
    """Hash of a file; the jobs of a sweep ask again and again for the same hundred megabytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
