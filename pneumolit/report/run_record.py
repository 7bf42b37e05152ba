"""What a run folder says, read once for its pages; whatever is not there yet is empty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pneumolit.config import choosing_metric, flatten, scored_epoch
from pneumolit.report.evaluation import TITLES
from pneumolit.report.language import ENGLISH
from pneumolit.rundir import RunDir, read_json, read_looks
from pneumolit.stage_plan import plan_stages

# Of the set as Kaggle gives it out, train and val and test together: shared/data and Kermany et al. 2018.
_KAGGLE_IMAGES, _KAGGLE_TEST = 5856, 624


@dataclass(frozen=True)
class Side:
    """What lies on one side of the split.

    Attributes:
        num_images: on it.
        patients: ids of those imaged.
        classes: images by class.
    """

    num_images: int
    patients: frozenset[str]
    classes: dict[str, int]


@dataclass(frozen=True)
class RunRecord:
    """The files of a run that its pages are made from.

    Attributes:
        run: the folder.
        config: config.yaml as nested values.
        data, environment, status, calibration, freeze_plan: the JSON files; calibration is {} where none was fitted.
        evaluations: metrics.json by evaluated set, the one that the headline comes from first.
        epochs: rows of metrics.csv.
        sides: what lies where, from split.csv.
        has_patients: whether the data tell patients apart; else every image counts as its own.
        looks: lines of the ledger that concern this test set.
    """

    run: RunDir
    config: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    status: dict[str, Any]
    calibration: dict[str, Any]
    freeze_plan: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    epochs: list[dict[str, float]] = field(default_factory=list)
    sides: dict[str, Side] = field(default_factory=dict)
    looks: list[dict[str, str]] = field(default_factory=list)
    has_patients: bool = True

    @classmethod
    def read(cls, run: RunDir) -> RunRecord:
        """Read a run folder.

        Raises:
            FileNotFoundError: a file that stands before training is missing.
        """
        config = run.read_config()
        data = read_json(run.data_file)
        looks = read_looks(run.ledger_folder(Path(config["output_dir"])))
        test_set = data["fingerprints"].get("test")
        return cls(
            run=run,
            config=config,
            data=data,
            environment=read_json(run.environment_file),
            status=read_json(run.status_file),
            calibration=read_json(run.calibration_file) if run.calibration_file.is_file() else {},
            freeze_plan=read_json(run.freeze_plan_file),
            evaluations={name: read_json(run.evaluation_metrics_file(name)) for name in evaluated_sets(run)},
            epochs=run.read_metrics(),
            sides=_read_sides(run),
            looks=[look for look in looks if look.get("test_set") == test_set],
            has_patients=_has_patients(run, config["data"]),
        )

    @property
    def last_stage(self) -> dict[str, Any]:
        """The configuration of the last stage, which makes the logits that are scored."""
        return plan_stages(self.config)[-1].cfg

    @property
    def settings(self) -> dict[str, Any]:
        """That configuration with dotted keys."""
        return flatten(self.last_stage)

    @property
    def language(self) -> str:
        """Of the pages."""
        return str((self.config.get("report") or {}).get("language") or ENGLISH)

    @property
    def main_set(self) -> str:
        """The set that the headline comes from: test where it was scored, else validation."""
        return next(iter(self.evaluations))

    @property
    def main(self) -> dict[str, Any]:
        """metrics.json of that set."""
        return self.evaluations[self.main_set]

    @property
    def other_sets(self) -> list[str]:
        """Evaluated sets that are none of the run's own sides."""
        return [name for name in self.evaluations if name not in TITLES]

    def knows_patients(self, name: str) -> bool:
        """Whether patients of an evaluated set are known: another set's own list may tell, or not tell, them apart."""
        told = bool(self.evaluations[name].get("has_patients", True))
        return told and (self.has_patients or name in self.other_sets)

    @property
    def is_kaggle(self) -> bool:
        """Whether this is the set of Kermany et al. 2018, as far as layout and counts can tell.

        The file contents cannot: the set is also passed on in other sizes.
        """
        from_test = self.sides.get("test", Side(0, frozenset(), {})).num_images
        total = sum(side.num_images for side in self.sides.values())
        return (
            self.config["data"]["source"] == "kaggle"
            and total == _KAGGLE_IMAGES
            and (from_test == _KAGGLE_TEST or not self.has_given_test)
        )

    @property
    def has_given_test(self) -> bool:
        """Whether the test side is the one that the data set names."""
        return all(self.config["data"].get(key) is None for key in ("resplit", "split_file"))

    @property
    def has_test(self) -> bool:
        """Whether there is a test side, as far as split.csv tells."""
        return not self.sides or "test" in self.sides

    @property
    def choosing_metric(self) -> str | None:
        """What the scored epoch, or when to stop, was chosen by; None where a fixed number of epochs ran to its end."""
        return choosing_metric(self.last_stage["callbacks"], self._scored_checkpoint)

    @property
    def scored_epoch(self) -> Mapping[str, float]:
        """The row of metrics.csv of the scored weights; empty where it is not known."""
        monitor = self.last_stage["callbacks"]["checkpoint"].get("monitor")
        return scored_epoch(self.epochs, self._scored_checkpoint, monitor)

    @property
    def _scored_checkpoint(self) -> str:
        return str(self.status.get("checkpoint") or self.last_stage["callbacks"]["checkpoint"]["use"])

    @property
    def num_parameters(self) -> int:
        """Of the whole model."""
        plan = self.freeze_plan["stages"][-1]
        return int(plan["trainable_count"]) + int(plan["frozen_count"])

    def shared_patients(self, first: str, second: str) -> int:
        """How many patients lie on both sides."""
        empty = Side(0, frozenset(), {})
        return len(self.sides.get(first, empty).patients & self.sides.get(second, empty).patients)


def set_title(name: str) -> str:
    """An evaluated set for people."""
    return TITLES.get(name, name)


def evaluated_sets(run: RunDir) -> list[str]:
    """Names of the evaluated sets: test, validation, blocks, then sets of other origin and the training images."""
    folder = run.evaluation_folder("val").parent
    found = [path.name for path in sorted(folder.glob("*")) if run.evaluation_metrics_file(path.name).is_file()]
    own = [name for name in ("test", "val", "block", "block2", "block3") if name in found]
    others = [name for name in found if name not in TITLES]
    return [*own, *others, *(name for name in found if name not in own and name in TITLES)]


def _has_patients(run: RunDir, data: dict[str, Any]) -> bool:
    if data["patient_key"] == "image" and data["source"] != "manifest":  # a manifest has ids of its own
        return False
    return not run.split_file.is_file() or any(row.get("patient_id", "") != row["path"] for row in run.read_split())


def _read_sides(run: RunDir) -> dict[str, Side]:
    if not run.split_file.is_file():
        return {}
    counts: dict[str, Counter[str]] = {}
    patients: dict[str, set[str]] = {}
    for row in run.read_split():
        counts.setdefault(row["split"], Counter())[row.get("label", "")] += 1
        patients.setdefault(row["split"], set()).add(row.get("patient_id", ""))
    return {
        name: Side(sum(found.values()), frozenset(patients[name]), dict(found))
        for name, found in sorted(counts.items())
    }
