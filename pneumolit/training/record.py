"""What a run writes down before it trains, and what must still hold when it is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from operator import itemgetter
from typing import Any

from pneumolit.config import configuration_hash
from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.dataset import ChestXrayData, count_classes
from pneumolit.data.reader import READER_VERSION
from pneumolit.data.store import read_otherwise
from pneumolit.model.freeze import FreezePlan
from pneumolit.model.gradients import ROUTES_VERSION
from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import RUNNING, RunDir, read_json, utc_now, write_json, write_yaml
from pneumolit.stage_plan import Stage
from pneumolit.training.build import seen_prior
from pneumolit.training.environment import describe_environment, source_hash
from pneumolit.training.precision import Precision

DISTRIBUTED = "distributed"  # key of the environment: who trains the model together


def write_record(
    run: RunDir,
    cfg: Mapping[str, Any],
    stages: Sequence[Stage],
    datamodule: ChestXrayDataModule,
    *,
    plans: Sequence[FreezePlan],
    source: WeightsSource,
    precision: Precision,
    gradient_routes: Sequence[str],
    processes: Mapping[str, Any] | None = None,
) -> None:
    """Write the files that stand before training; status.json comes last and says that they are whole."""
    data = datamodule.data
    run.path.mkdir(parents=True, exist_ok=True)
    write_yaml(run.config_file, cfg)
    counts = count_classes(data)
    prior, odds = seen_prior(stages[-1].cfg, datamodule)  # the last stage makes the logits that are scored
    write_json(
        run.data_file,
        {
            **data.labels.to_dict(),
            "counts": counts,
            "class_counts": datamodule.class_counts,
            "seen_prior": prior,
            "prior_log_odds": odds,
            "store": data.store.key,
            "teacher": teacher_hash(datamodule),
            "stored_side": int(data.store.images.shape[1]),
            "reader": READER_VERSION,
            "fingerprints": {name: data.set_fingerprint(name) for name in counts},
            "unreadable": {data.records[i].path.as_posix(): why for i, why in sorted(data.store.errors.items())},
        },
    )
    run.write_split(data.split_rows())
    write_json(run.freeze_plan_file, {"stages": [plan.to_dict() for plan in plans]})
    write_json(
        run.environment_file,
        {
            **describe_environment(),
            "weights": source.to_dict(),
            "precision": precision._asdict(),
            "conv_gradients": f"{', '.join(gradient_routes)} (version {ROUTES_VERSION})"
            if gradient_routes
            else "library",
            **({DISTRIBUTED: dict(processes)} if processes else {}),
        },
    )
    run.write_status(RUNNING, configuration=configuration_hash(cfg), code=source_hash())


def note_resumption(run: RunDir, epochs: int, processes: Mapping[str, Any] | None = None) -> None:
    """Write down that a run goes on: when, after how many epochs, and what of environment and code is another."""
    before, now = read_json(run.environment_file), {**describe_environment(), DISTRIBUTED: processes}
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    code, code_before = source_hash(), read_json(run.status_file).get("code")
    if code != code_before:
        changed["code"] = code
    resumed = [*before.get("resumed", []), {"time": utc_now(), "epochs": epochs, "changed": changed}]
    write_json(run.environment_file, {**before, "resumed": resumed})
    run.write_status(RUNNING, code=code)  # a sweep counts a run as that of the code that ended it


def refuse_other_weights(run: RunDir, source: WeightsSource) -> None:
    """Refuse to begin a run again from other weights than its record names.

    Raises:
        ValueError: another file.
    """
    described = read_json(run.environment_file)["weights"]
    if described["sha256"] != source.sha256:
        raise ValueError(
            f"the run in {run.path} began with other weights ({described['location'] or 'random ones'}); give their "
            "file by model.weights, or start a new run"
        )


def teacher_hash(datamodule: ChestXrayDataModule) -> str | None:
    """Hash of what a teacher says of the training films; None without one."""
    teacher = datamodule.teacher
    return None if teacher is None else hashlib.sha256(teacher.tobytes()).hexdigest()


def refuse_other_teacher(run: RunDir, datamodule: ChestXrayDataModule) -> None:
    """Refuse to go on with another teacher than the run began with.

    Raises:
        ValueError: its files say something else now.
    """
    if read_json(run.data_file).get("teacher") != teacher_hash(datamodule):
        raise ValueError(
            f"the teacher's scores are not those that the run in {run.path} began with; give the same files by "
            "distill.teacher, or start a new run"
        )


def refuse_other_images(run: RunDir, data: ChestXrayData) -> None:
    """Refuse to go on with images or a split other than those that the run began with.

    Raises:
        ValueError: contents or sides differ.
    """
    described = read_json(run.data_file)
    size = run.read_config()["data"]["store_size"]
    if described["store"] != data.store.key and (why := read_otherwise(data.store, described["store"], size)):
        raise ValueError(f"the images of the run in {run.path} cannot be read as it read them: {why}")
    now = {name: data.set_fingerprint(name) for name in count_classes(data)}
    shown = itemgetter("path", "split", "label")
    is_same = all(
        began is not None and asked is not None and shown(began) == shown(asked)
        for began, asked in zip_longest(run.read_split(), data.split_rows())
    )
    if described["store"] != data.store.key or described["fingerprints"] != now or not is_same:
        raise ValueError(
            f"the images are not those that the run in {run.path} began with: contents or split differ. Set "
            "data.root=FOLDER to where they lie now, or start a new run"
        )
