"""Who proposes the next point of a search, and who ends trials early: Optuna's samplers and pruners by name."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Name -> Optuna's class and those of its arguments that are plain values.
SAMPLERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tpe": (
        "TPESampler",
        ("n_startup_trials", "n_ei_candidates", "prior_weight", "multivariate", "group", "constant_liar"),
    ),
    "random": ("RandomSampler", ()),
    "gp": ("GPSampler", ("n_startup_trials", "deterministic_objective")),
    "cmaes": (
        "CmaEsSampler",
        ("n_startup_trials", "sigma0", "popsize", "consider_pruned_trials", "use_separable_cma", "with_margin"),
    ),
    "qmc": ("QMCSampler", ("qmc_type", "scramble")),
    "nsgaii": ("NSGAIISampler", ("population_size", "mutation_prob", "crossover_prob", "swapping_prob")),
}
PRUNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "median": ("MedianPruner", ("n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials")),
    "percentile": (
        "PercentilePruner",
        ("percentile", "n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials"),
    ),
    "successive_halving": (
        "SuccessiveHalvingPruner",
        ("min_resource", "reduction_factor", "min_early_stopping_rate", "bootstrap_count"),
    ),
    "hyperband": ("HyperbandPruner", ("min_resource", "max_resource", "reduction_factor", "bootstrap_count")),
    "threshold": ("ThresholdPruner", ("lower", "upper", "n_warmup_steps", "interval_steps")),
    "none": ("NopPruner", ()),
}
_PACKAGES = {"cmaes": "cmaes"}  # that a sampler needs beside Optuna


def check_strategy(sampler: Any, pruner: Any) -> None:
    """Refuse unknown names and arguments before Optuna is imported.

    Args:
        sampler: the mapping `search.sampler`.
        pruner: the mapping `search.pruner`.

    Raises:
        ValueError: names the key, what was found, and what there is.
    """
    for key, content, table in (("search.sampler", sampler, SAMPLERS), ("search.pruner", pruner, PRUNERS)):
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise ValueError(f"{key} must be a mapping with a name, one of {', '.join(table)}; got {content!r}")
        name = content["name"]
        if name not in table:
            raise ValueError(f"{key}.name must be one of {', '.join(table)}, got {name!r}{_offer(name, list(table))}")
        own = [*table[name][1], *(["seed"] if table is SAMPLERS else [])]
        for argument, value in content.items():
            if argument not in ("name", *own) and value is not None:
                has = ", ".join(own) or "none"
                raise ValueError(
                    f"{key}.{argument} is no argument of {name}{_offer(str(argument), own)} (it has {has})"
                )
    seed = sampler.get("seed")
    if seed is not None and not (isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32):
        raise ValueError(f"search.sampler.seed must be null or a whole number from 0 to {2**32 - 1}, got {seed!r}")
    package = _PACKAGES.get(sampler["name"])
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"search.sampler.name={sampler['name']} needs the package {package}: python -m pip install {package}"
        )


def build_sampler(settings: Mapping[str, Any], number: int) -> Any:
    """A sampler for one trial.

    Its random numbers follow from the seed and the trial's place alone: a search that was cut off goes on as if it had
    not been, and processes that share a study never draw the same ones.

    Args:
        settings: the mapping `search.sampler`, checked.
        number: of the trial, those aside that repeat one which was cut off.

    Raises:
        ValueError: an argument's value is none that Optuna takes.
    """
    import numpy as np
    import optuna

    seed, name = settings.get("seed"), settings["name"]
    if seed is not None and name != "qmc":  # a sequence of points has one seed, which all of them must share
        seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    given = {k: v for k, v in settings.items() if k not in ("name", "seed") and v is not None}
    return _built("search.sampler", getattr(optuna.samplers, SAMPLERS[name][0]), given, {"seed": seed})


def build_pruner(settings: Mapping[str, Any], epochs: int) -> Any:
    """A pruner.

    Args:
        settings: the mapping `search.pruner`, checked.
        epochs: that a trial has at most.

    Raises:
        ValueError: an argument's value is none that Optuna takes.
    """
    import optuna

    name = settings["name"]
    given = {k: v for k, v in settings.items() if k != "name" and v is not None}
    further = {}
    if name == "hyperband" and "max_resource" not in given:
        further["max_resource"] = epochs  # else it is unknown until a trial has come to its end
    if name == "successive_halving" and "min_resource" not in given:
        further["min_resource"] = 1
    return _built("search.pruner", getattr(optuna.pruners, PRUNERS[name][0]), given, further)


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's own lines, which repeat ours, and without its warnings that an argument is experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        # The names offered here are in use for years; the search's file is what changes should they go.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def _built(key: str, kind: Any, given: Mapping[str, Any], further: Mapping[str, Any]) -> Any:
    defaults = inspect.signature(kind).parameters
    for argument, value in given.items():
        default = defaults[argument].default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{key}.{argument} must be true or false, got {value!r}")
        if isinstance(default, int) and not isinstance(default, bool) and not (isinstance(value, int) and is_number):
            raise ValueError(f"{key}.{argument} must be a whole number, got {value!r}")
        if isinstance(default, float) and not is_number:
            raise ValueError(f"{key}.{argument} must be a number, got {value!r}")
    try:
        return kind(**given, **further)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key} cannot be {dict(given)}: {error}") from None


def _offer(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
