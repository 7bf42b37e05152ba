"""What the runs of a lesson have become: their folders, their predictions, and the phantoms that nobody trained on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pneumolit.data.datamodule import pool_of
from pneumolit.data.dataset import ChestXrayData, load_data
from pneumolit.data.demo import DEMO_VERSION, make_demo
from pneumolit.data.store import cache_folder
from pneumolit.labels import two_class_logit
from pneumolit.lessons.plan import Lesson, Phantoms
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.predictions import Predictions
from pneumolit.rundir import RunDir, fingerprint
from pneumolit.training.rescore import load_model, score_other_set

NEW = "new_patients"  # folder below evaluation/
FILM_SIDE = 96  # pixels; a lesson's models see 64
_APART = 100_000  # between the seeds of the phantoms to learn from and of those that are met later


def draw_phantoms(phantoms: Phantoms, seed: int, cache_dir: Path) -> Path:
    """Folder of a lesson's phantoms, drawn where it is not there yet."""
    settings = {
        "seed": seed,
        "num_train_patients": phantoms.patients,
        "num_test_patients": phantoms.test_patients,
        "size": FILM_SIDE,
        "films_per_patient": phantoms.films,
        "lesion_density": phantoms.density,
        "same_stance": phantoms.same_stance,
    }
    name = fingerprint([f"{key}={value}" for key, value in settings.items()])
    return make_demo(cache_dir / "demo" / f"v{DEMO_VERSION}-lesson-{name}", **settings)  # type: ignore[arg-type]


@dataclass
class Taught:
    """A lesson whose runs are finished.

    Attributes:
        lesson: as planned.
        runs: by name, in the order of training.
        cfgs: the configuration of each.
        cache_dir: of phantoms and decoded images.
    """

    lesson: Lesson
    cache_dir: Path
    runs: dict[str, RunDir] = field(default_factory=dict)
    cfgs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, lesson: Lesson) -> Taught:
        """Before its first run."""
        return cls(lesson, cache_folder(lesson.cfg["cache_dir"]))

    @cached_property
    def root(self) -> Path:
        """Phantoms to learn from."""
        return draw_phantoms(self.lesson.phantoms, self.lesson.cfg["data"]["demo_seed"], self.cache_dir)

    @cached_property
    def new_root(self) -> Path:
        """Phantoms of new patients, one film each."""
        plain = Phantoms(self.lesson.new_patients, films=(1,), density=self.lesson.phantoms.density)
        return draw_phantoms(plain, self.lesson.cfg["data"]["demo_seed"] + _APART, self.cache_dir)

    def validation(self, name: str) -> Predictions:
        """What a run said about its own validation films."""
        return self.runs[name].read_predictions("val")

    def test(self, name: str) -> Predictions:
        """What a run with `test: true` said about the test split."""
        return self.runs[name].read_predictions("test")

    def new_patients(self, name: str) -> Predictions:
        """What a run says about new patients; scored, with a report of its own, when first asked for."""
        run = self.runs[name]
        if not run.evaluation_metrics_file(NEW).is_file():
            score_other_set(self._scoring(name), run, NEW, quiet())
        return run.read_predictions(NEW)

    def model(self, name: str) -> PneumoniaClassifier:
        """The classifier of a run."""
        return load_model(self.runs[name], self.cfgs[name])

    def new_data(self, name: str) -> ChestXrayData:
        """The films of new patients, opened."""
        return load_data({**self.cfgs[name]["data"], "root": str(self.new_root), "val_fraction": 0.5}, self.cache_dir)

    def own_data(self, name: str) -> ChestXrayData:
        """The films of a run, divided as it divided them."""
        return load_data(self.cfgs[name]["data"], self.cache_dir)

    def _scoring(self, name: str) -> Mapping[str, Any]:
        """What `evaluate` would be told."""
        return {
            "data": {**self.cfgs[name]["data"], "root": str(self.new_root)},
            "cache_dir": self.lesson.cfg["cache_dir"],
            "output_dir": self.lesson.cfg["output_dir"],
            "split": "train",
            "rescore": False,
            "prevalence": None,
        }


def met_later(data: ChestXrayData) -> np.ndarray:
    """Rows of new patients; the few films that every set of phantoms has in its folders val and test are left out."""
    in_train = [data.records[int(row)].path.parts[0] == "train" for row in pool_of(data)]
    return np.asarray(pool_of(data)[in_train])


def scores_of(logits: np.ndarray, model: PneumoniaClassifier) -> np.ndarray:
    """`(N,)` two-class logit at prevalence one half: above 0 the film is called pneumonia."""
    score = two_class_logit(logits, model.labels.positive_mask) - float(model.settings["prior_log_odds"])
    return np.asarray(score, dtype=np.float64)


def quiet() -> Console:
    """A console that nobody reads: a lesson speaks for its runs."""
    return Console(file=io.StringIO())
