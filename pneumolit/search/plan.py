"""What a search is, and whether a study is its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pneumolit.config import filled
from pneumolit.rundir import TuneDir
from pneumolit.search.space import Axis
from pneumolit.search.storage import check_address
from pneumolit.search.strategy import build_pruner, build_sampler, quiet_optuna
from pneumolit.search.study import SharedStudy
from pneumolit.search.trial import epochs_of
from pneumolit.sweep.settings import DevicesSettings
from pneumolit.training.resume import differences

_RECORD = "pneumolit"  # attribute of the study: what it searches


@dataclass(frozen=True)
class SearchSettings:
    """The keys of `tune` itself.

    Attributes:
        n_trials: finished trials in total.
        timeout: seconds of this call; None: no limit.
        storage: URL; None: a journal file.
        monitor: what is optimised.
        max_failed: failed trials of this call that are put up with.
        accept_code_change: whether trials of other code count.

    Raises:
        ValueError: a value that is none.
    """

    n_trials: int
    timeout: float | None
    storage: str | None
    monitor: str
    max_failed: int
    accept_code_change: bool

    def __post_init__(self) -> None:
        for key in ("n_trials", "max_failed"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{key} must be a whole number of at least 1, got {value!r}")
        is_number = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if self.timeout is not None and not (is_number and 0 < self.timeout < math.inf):
            raise ValueError(f"timeout must be null or seconds above 0, got {self.timeout!r}")
        if not isinstance(self.accept_code_change, bool):
            raise ValueError(f"accept_code_change must be true or false, got {self.accept_code_change!r}")
        check_address(self.storage)


@dataclass(frozen=True)
class Search:
    """What a search is.

    Attributes:
        tune: its folder.
        settings: the keys of the command.
        base: complete configuration, with what all trials share.
        base_name: hash of that and of the data.
        code: hash of the sources.
        axes: what varies.
        sampler: the mapping `search.sampler`, checked.
        pruner: the mapping `search.pruner`, checked.
        launcher: where trials run.
        compose: complete, checked configuration of a point, from its overrides.
        name_run: hash of a configuration and its data.
    """

    tune: TuneDir
    settings: SearchSettings
    base: Mapping[str, Any]
    base_name: str
    code: str
    axes: Sequence[Axis]
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any]
    launcher: DevicesSettings
    compose: Callable[[Sequence[str]], Mapping[str, Any]]
    name_run: Callable[[Mapping[str, Any]], str]


def check_pruner(search: Search) -> None:
    """Refuse arguments of sampler and pruner that Optuna does not take, before anything begins."""
    with quiet_optuna():
        build_sampler(search.sampler, 0)
        build_pruner(search.pruner, epochs_of(search.base))


def check_record(search: Search, study: SharedStudy) -> None:
    """Write down what a study searches, or refuse to mix it with another search.

    Raises:
        ValueError: what varies, what is optimised, or what all trials share is not the same; or the code has changed.
    """
    settings, name = search.settings, search.tune.path.name
    space = {axis.key: repr(axis) for axis in search.axes}
    new = {"monitor": settings.monitor, "space": space, "base": search.base_name, "code": search.code}
    known = study.study.user_attrs.get(_RECORD)
    if known is None:
        study.study.set_user_attr(_RECORD, new | {"configuration": search.base})
        return
    found = []
    if known["monitor"] != settings.monitor:
        found.append(f"monitor={settings.monitor} instead of {known['monitor']}")
    for key in dict.fromkeys([*space, *known["space"]]):
        if space.get(key) != known["space"].get(key):
            found.append(f"search.space.{key} differs" if key in space and key in known["space"] else
                         f"search.space.{key} is {'new' if key in space else 'gone'}")  # fmt: skip
    if known["base"] != search.base_name:
        words = differences(search.base, filled(known["configuration"]))
        found += words or ["other images or other weights"]
    if found:
        raise ValueError(
            f"the study {name} belongs to another search: {'; '.join(found)}. To go on with it give the same command "
            "as then; for another search give another name"
        )
    if known["code"] != search.code:
        if not settings.accept_code_change and any(trial.state.is_finished() for trial in study.trials()):
            raise ValueError(
                f"trials of the study {name} were run by other code (of labels, data, model or training). Give "
                "accept_code_change=true to count them and go on, or another name to begin anew"
            )
        accepted = [*known.get("accepted", []), *([known["code"]] if settings.accept_code_change else [])]
        study.study.set_user_attr(_RECORD, known | {"code": search.code, "accepted": accepted})


def accepted_codes(study: SharedStudy) -> list[str]:
    """Hashes of the code that was accepted to have run a part of a study, and of that which runs it now."""
    record = study.study.user_attrs[_RECORD]
    return [record["code"], *record.get("accepted", [])]
