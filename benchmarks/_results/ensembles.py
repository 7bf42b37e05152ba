"""Ensembles as rows of the result table: the folds of one seed of a sweep `*_ensemble`, put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pneumolit.config import CONFIG_DIR, configuration_hash, filled
from pneumolit.rundir import RunDir, read_json, read_yaml


def members_of(run: RunDir) -> list[RunDir]:
    """The runs that an ensemble consists of; of a single run itself."""
    if not run.ensemble_file.is_file():
        return [run]
    return [RunDir((run.path / told["run_dir"]).resolve()) for told in read_json(run.ensemble_file)["members"]]


def row_of_ensemble(run: RunDir, recipe_hash: Callable[..., str], sweeps: Path = CONFIG_DIR / "sweep") -> str:
    """The sweep `*_ensemble` whose folds the members of an ensemble are, by their configuration.

    Args:
        run: folder of the ensemble.
        recipe_hash: hash of what overrides decide now, seed aside.
        sweeps: folder of the sweeps.

    Raises:
        ValueError: they are of several seeds, not every fold once, or of no such sweep as it stands now.
    """
    configs = [read_yaml(member.config_file) for member in members_of(run)]
    seeds, folds = {config["seed"] for config in configs}, sorted(config["data"]["fold"] for config in configs)
    if len(seeds) > 1 or folds != list(range(configs[0]["data"]["folds"] or 1)):
        raise ValueError(f"an ensemble's record needs every fold of one seed, got seeds {sorted(seeds)}, folds {folds}")
    found = {config["data"]["fold"]: configuration_hash(filled(config)) for config in configs}
    names = [path.stem for path in sorted(sweeps.glob("*_ensemble.yaml"))]
    for name in names:
        experiment = read_yaml(sweeps / f"{name}.yaml")["hydra"]["sweeper"]["params"]["experiment"]
        choices = (f"experiment={experiment}", f"sweep={name}")
        if all(recipe_hash(*choices, f"data.fold={fold}") == own for fold, own in found.items()):
            return name
    raise ValueError(f"its members are no runs of {' or '.join(names)} as that stands now; run it again")


def command_of_ensemble(row: str, seed: int) -> str:
    """What makes the ensemble again and scores it on test."""
    name = f"{row}_{seed}"
    return (
        f"python -m pneumolit.train --multirun sweep={row} seed={seed} sweep.name={name} && "
        f"python -m pneumolit.compare runs=outputs/sweeps/{name} split=block ensemble=mean save={name} && "
        f"python -m pneumolit.evaluate run_dir=outputs/ensembles/{name} split=test"
    )
