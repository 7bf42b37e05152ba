"""Ensembles as rows of the result table: the folds of one seed of a named sweep, put together.

The row of an ensemble is the sweep that its members are jobs of, its seed theirs.
"""

from __future__ import annotations

from collections.abc import Callable

from pneumolit.config import configuration_hash, filled
from pneumolit.rundir import RunDir, read_json, read_yaml


def members_of(run: RunDir) -> list[RunDir]:
    """The runs that an ensemble consists of; of a single run itself."""
    if not run.ensemble_file.is_file():
        return [run]
    return [RunDir((run.path / told["run_dir"]).resolve()) for told in read_json(run.ensemble_file)["members"]]


def row_of_ensemble(run: RunDir, recipe_hash: Callable[..., str]) -> str:
    """The sweep that the members of an ensemble are jobs of.

    Args:
        run: folder of the ensemble.
        recipe_hash: hash of what overrides decide now, seed aside.

    Raises:
        ValueError: they are jobs of several sweeps or of none by name, of several seeds, not every fold once, or their
            recipe is another by now.
    """
    sweeps: set[str] = set()
    seeds: set[int] = set()
    folds: list[int] = []
    members = members_of(run)
    for member in members:
        given = dict(one.lstrip("+").partition("=")[::2] for one in read_json(member.job_file)["overrides"])
        config = read_yaml(member.config_file)
        sweeps.add(given.get("sweep", ""))
        seeds.add(config["seed"])
        folds.append(config["data"]["fold"])
        asked = [f"{key}={given[key]}" for key in ("experiment", "sweep", "data.fold") if key in given]
        if configuration_hash(filled(config)) != recipe_hash(*asked):
            raise ValueError(
                f"its member {member.path.name} ({' '.join(asked)}) is another recipe by now; run it again"
            )
    (sweep, *others), (_, *other_seeds) = sorted(sweeps), sorted(seeds)
    is_whole = sorted(folds) == list(range(read_yaml(members[0].config_file)["data"]["folds"] or 1))
    if others or other_seeds or not sweep or not is_whole:
        raise ValueError(
            f"an ensemble's record needs every fold of one seed of one named sweep, got sweeps {sorted(sweeps)}, seeds "
            f"{sorted(seeds)}, folds {sorted(folds)}"
        )
    return sweep


def command_of_ensemble(row: str, seed: int) -> str:
    """What makes the ensemble again and scores it on test."""
    name = f"{row}_{seed}"
    return (
        f"python -m pneumolit.train --multirun sweep={row} seed={seed} sweep.name={name} && "
        f"python -m pneumolit.compare runs=outputs/sweeps/{name} split=block ensemble=mean save={name} && "
        f"python -m pneumolit.evaluate run_dir=outputs/ensembles/{name} split=test"
    )
