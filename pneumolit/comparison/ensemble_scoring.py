"""A saved ensemble scores images: each member does, and what they say is combined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pneumolit.comparison.ensemble import SHARED
from pneumolit.comparison.ensemble_folder import combined_context, note_look, read_ensemble
from pneumolit.report.run_page import write_page
from pneumolit.rundir import RunDir, read_json, shortest
from pneumolit.scoring import write_evaluation
from pneumolit.training.rescore import score_other_set, score_own_split


def score_ensemble(
    cfg: Mapping[str, Any], run: RunDir, name: str, is_other_set: bool, console: Console, *, title: str
) -> dict[str, Any]:
    """Score a set with every member, each into its own folder, and write what the ensemble says of it.

    A member that has scored a split of its own data keeps its predictions, unless `rescore` asks for new ones. On test
    every member that is scored takes a look, and the ensemble its own.

    Args:
        cfg: of the command evaluate.
        run: folder of the ensemble.
        name: of the set.
        is_other_set: whether it is none of the members' own data.
        console: where the members are named.
        title: of the set.

    Returns:
        The content of metrics.json.

    Raises:
        FileNotFoundError, ValueError: a member is gone or was trained anew, its members have no such images in common,
            or as the scoring of a run.
    """
    ensemble = read_ensemble(run)
    if not is_other_set:
        if name == "val" and ensemble.validation != SHARED:
            raise ValueError(
                "split=val: the members have different validation images, each of which other members were trained on; "
                "python -m pneumolit.compare with the same members, ensemble= and save= writes them anew"
            )
        if name not in read_json(run.data_file)["fingerprints"]:
            raise ValueError(f"split={name}: the members have no such images in common; choose another split")
    for member in ensemble.members:
        is_there = member.run.predictions_file(name).is_file() and member.run.evaluation_metrics_file(name).is_file()
        if is_there and not is_other_set and not cfg["rescore"]:
            continue
        where = shortest(member.run.path)
        console.print(f"  member {member.name}  {where}", highlight=False, markup=False, soft_wrap=True)
        own = {**cfg, "prevalence": None}  # a rule at a prevalence is one of the ensemble
        if is_other_set:
            score_other_set(own, member.run, name, console)
        else:
            score_own_split(own, member.run, name, console, title=title)
        write_page(member.run)  # says what it has scored, and its look
    combined = ensemble.combine(name)
    context = combined_context(ensemble, run, name) | note_look(ensemble, run, name)
    return write_evaluation(
        run, name, combined, title=title, context=context, prevalence=cfg["prevalence"], views=ensemble.views
    )
