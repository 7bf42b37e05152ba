"""Stages that train on stored features: which ones do, where the features come from, what the loaders hand out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.data.augment import AugmentConfig
from pneumolit.data.datamodule import Rows, image_rows, pool_of, stress_origin
from pneumolit.data.dataset import ChestXrayData
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.cut import Cut, NoCutError
from pneumolit.model.features import FeatureCache, FeatureRows, Features, bytes_per_image, rows_origin
from pneumolit.model.freeze import FreezePlan, trains_head_alone
from pneumolit.model.front import FrontCut, cut_for
from pneumolit.rundir import RunDir, read_json, write_json
from pneumolit.stage_plan import Stage
from pneumolit.training.build import model_device
from pneumolit.training.memory import is_out_of_memory
from pneumolit.training.place import Workplace
from pneumolit.training.progress import data_progress
from pneumolit.training.worth import LARGEST, why_few, why_large

_WORDS = {"val": "validation", "stress": "stressed validation"}  # the others are called what they are


def why_images(
    cfg: Mapping[str, Any],
    plan: FreezePlan,
    model: PneumoniaClassifier,
    data: ChestXrayData,
    *,
    precision: str,
    accelerator: str,
    cache_dir: Path,
    processes: int = 1,
) -> str:
    """Why a stage trains on images; empty where it trains on stored features.

    Args:
        cfg: complete configuration of the stage.
        plan: what trains in it.
        model: its classifier, or that of another stage of the run.
        data: its images.
        precision: number format of training.
        accelerator: Lightning's name of its device.
        cache_dir: folder of stored features.
        processes: that train the model together.

    Raises:
        ValueError: stored features are asked for and cannot be.
    """
    asked, views = cfg["trainer"]["cache_features"], int(cfg["trainer"]["feature_views"])
    if asked is False:
        return "trainer.cache_features=false"
    if processes > 1:  # those who ask for them are refused with the configuration
        return f"{processes} processes train on images; one alone trains on stored features in seconds"
    is_wished, is_head = bool(views) or asked is True, trains_head_alone(model.backbone, plan)
    reason = _obstacle(cfg, plan, model)
    if not reason and not is_wished:  # what can be said before the model is taken apart, which takes seconds
        if cfg["trainer"]["limit_train_batches"] is not None:
            return "a run of a few batches would not pay for them"
        reason = "" if is_head else why_few(cfg, data, accelerator)
    cut: Cut | FrontCut | None = None
    if not reason:
        try:
            cut = _cut(plan, model)
        except NoCutError as error:
            where = "before its head" if is_head else "behind its frozen part"
            reason = f"{model.settings['backbone']} cannot be taken apart {where}: {error}"
    if reason and is_wished:
        wish = f"trainer.feature_views={views}" if views else "trainer.cache_features=true"
        raise ValueError(f"{wish}, but {reason}")
    if is_wished or cut is None:
        return reason
    if isinstance(cut, FrontCut):
        return why_few(cfg, data, accelerator, cut.share) or why_large(cfg, data, cut, precision, cache_dir)
    size = len(pool_of(data)) * bytes_per_image(cut, precision)
    return f"they would take {size / 1e9:.0f} GB; trainer.cache_features=true stores them" if size > LARGEST else ""


def _obstacle(cfg: Mapping[str, Any], plan: FreezePlan, model: PneumoniaClassifier) -> str:
    if not plan.frozen:
        return f"freeze={plan.policy} leaves nothing frozen here; set freeze=head, or fewer groups or layers"
    size, scored = cfg["model"]["train_size"], cfg["model"]["image_size"]  # the model may be another stage's
    if size not in (None, scored):
        return f"model.train_size={size} gives training images another size; leave it out"
    single = {k: v for k, v in cfg["augment"].items() if k in AugmentConfig.__dataclass_fields__}
    mixed = [key for key, value in cfg["augment"].items() if key not in single and value]
    if mixed:
        return f"augment.{mixed[0]}={cfg['augment'][mixed[0]]} mixes images, not features; set it to 0"
    if cfg["data"]["val_augment"]:
        return "data.val_augment=true gives new validation images in every epoch; leave it out"
    is_identity, views = AugmentConfig(**single).is_identity, cfg["trainer"]["feature_views"]
    if not is_identity and not views:
        return (
            "augmentation gives new images in every epoch; set augment=none, or trainer.feature_views=4 for four "
            "fixed views of every image"
        )
    if is_identity and views:
        return "without augmentation all views are the same; leave it out, or choose one (augment=light)"
    return ""


def _cut(plan: FreezePlan, model: PneumoniaClassifier) -> Cut | FrontCut:
    if model.plan == plan:
        return model.take_apart()
    size = int(model.settings["image_size"])
    shape = (int(model.settings["in_chans"]), size, size)
    return cut_for(model.backbone, shape, drop_rate=float(model.settings["drop_rate"]), plan=plan)


class RunFeatures:
    """Stored features of a run's images.

    Args:
        model: whose features; moved to the device of the run.
        place: of the run.
        precision: number format.
        progress: called while features are computed.
    """

    def __init__(self, model: PneumoniaClassifier, place: Workplace, precision: str, progress: Any) -> None:
        self.datamodule, self.data = place.datamodule, place.datamodule.data
        self.pool = pool_of(self.data)
        self.used: dict[str, str] = {}
        self.cache = FeatureCache(
            model.use_channels_last().to(model_device(place.accelerator)),
            place.cache_dir / "features",
            precision=precision,
            progress=progress,
            tell=lambda line: place.console.print(line, highlight=False, soft_wrap=True),
        )

    def training(self, views: Sequence[int] = (), count: int = 0) -> FeatureRows:
        """The training rows: as they are, or in fixed views of which `count` take turns."""
        numbers: list[int | None] = [*views] or [None]
        origin = rows_origin(self.data, self.pool)
        missing = [n for n in numbers if self.cache.find(origin, len(self.pool), n) is None]
        if missing:
            self.cache.refuse_full_disk(len(missing) * len(self.pool))
        found = {number or 0: self._of_pool(number) for number in numbers}
        return self._rows(found, "train", max(count, 1))

    def split(self, name: str) -> FeatureRows:
        """A split as it is, from the features of the whole pool where these are stored."""
        if name == "stress":
            return self._stress()
        pooled = None
        if name != "test":
            pooled = self.cache.find(rows_origin(self.data, self.pool), len(self.pool))
        if pooled is not None:
            self.used[name] = pooled.key
            return self._rows({0: pooled}, name)
        rows = self.data.rows(name)
        images = image_rows(self.data, rows)
        own = self.cache.open(images, rows_origin(self.data, rows), what=_WORDS.get(name, name), rows=rows)
        self.used[name] = own.key
        return FeatureRows({0: own}, np.arange(len(rows)), images)

    def _stress(self) -> FeatureRows:
        images, origin = self.datamodule.images_of("stress"), stress_origin(self.data)
        places = np.arange(len(images))
        origin["store"] = self.data.store.key
        own = self.cache.open(images, origin, what=_WORDS["stress"], rows=places)
        self.datamodule.forget_images()
        self.used["stress"] = own.key
        return FeatureRows({0: own}, places, images)

    def _of_pool(self, view: int | None) -> Features:
        name = "training" if view is None else f"view {view + 1} of the training"
        images = image_rows(self.data, self.pool)
        origin = rows_origin(self.data, self.pool)
        found = self.cache.open(images, origin, what=name, rows=self.pool, view=view)
        self.used["train" if view is None else f"train_view_{view}"] = found.key
        return found

    def _rows(self, views: Mapping[int, Features], name: str, count: int = 1) -> FeatureRows:
        places = np.searchsorted(self.pool, self.data.rows(name))
        return FeatureRows(views, places, self.datamodule.rows_of(name), count=count)


def store_features(stage: Stage, model: PneumoniaClassifier, place: Workplace, *, epochs_before: int) -> None:
    """Give the loaders stored features of a stage's images, and note their keys in the record.

    Args:
        stage: one that trains on features.
        model: its classifier; what is frozen has its final weights.
        place: of the run.
        epochs_before: finished epochs of the earlier stages.
    """
    datamodule, views = place.datamodule, int(stage.cfg["trainer"]["feature_views"])
    needed = sorted({epoch % views for epoch in range(epochs_before, epochs_before + stage.epochs)}) if views else []
    start = time.monotonic()
    with _computed(place) as progress:
        features = RunFeatures(model, place, place.precision, progress)
        stored: dict[str, Rows] = {"train": features.training(needed, views)}
        stored |= {name: features.split(name) for name in datamodule.val_names}
    datamodule.stored, datamodule.views = stored, views
    environment = read_json(place.run.environment_file)
    known = environment.setdefault("features", {}).setdefault(str(stage.index + 1), {"seconds": 0.0})
    known |= {"views": views, "keys": features.used}
    cut = model.take_apart()
    if isinstance(cut, FrontCut):
        known["before"] = cut.entrance
    known["seconds"] = round(known["seconds"] + time.monotonic() - start, 1)
    write_json(place.run.environment_file, environment)


def has_features(stage: Stage, run: RunDir) -> bool:
    """Whether a stage that has begun trained on stored features."""
    return str(stage.index + 1) in read_json(run.environment_file).get("features", {})


def feature_seconds(run: RunDir) -> float:
    """What features took to be computed or found, in all stages."""
    return float(sum(stage["seconds"] for stage in read_json(run.environment_file).get("features", {}).values()))


@contextmanager
def scored_rows(
    stage: Stage, model: PneumoniaClassifier, place: Workplace, precision: str
) -> Iterator[Callable[[str], Rows]]:
    """What the splits are scored from: stored features where the last stage trained a head on them, else images.

    One pass over the images gains nothing from the output of a frozen front, whose number format is that of training.

    Args:
        stage: the last one.
        model: with the weights that are scored.
        place: of the run.
        precision: number format of scoring.
    """
    known = read_json(place.run.environment_file).get("features", {}).get(str(stage.index + 1))
    if known is None or "before" in known:
        yield place.datamodule.rows_of
        return
    with _computed(place) as progress:
        yield RunFeatures(model, place, precision, progress).split


@contextmanager
def _computed(place: Workplace) -> Iterator[Any]:
    try:
        with data_progress(place.console) as progress:
            yield progress
    except Exception as error:
        if is_out_of_memory(error):
            raise ValueError(
                f"computing features does not fit into the memory of {place.accelerator}; free memory, or choose a "
                "smaller backbone or model.image_size"
            ) from error
        raise
