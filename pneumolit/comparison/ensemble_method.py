"""An ensemble as a method of the comparison, and what it gains over its best member."""

from __future__ import annotations

from collections.abc import Sequence

from pneumolit.comparison.ensemble import COMBINES, OUT_OF_FOLD, OWN, SHARED, SINGLE_FOLDS, Ensemble, best_single
from pneumolit.comparison.facts import sum_of_facts
from pneumolit.comparison.method import ENSEMBLE, Method, method_of
from pneumolit.comparison.pairs import compare_pairs
from pneumolit.comparison.rows import RowGroup
from pneumolit.comparison.run import Result, Settings
from pneumolit.evaluation.metrics import auroc
from pneumolit.evaluation.summary import decide_by_rule, summarise
from pneumolit.report.comparison_tables import pair_table, resampled_table
from pneumolit.report.tables import Table

NOT_SAVED = "not saved"
_ON = {
    SHARED: "Calibrated on the validation images that all members share.",
    OUT_OF_FOLD: (
        "Calibrated on all training images, each scored by the members that had not seen it (out of fold): calibration "
        f"and thresholds are {SINGLE_FOLDS}."
    ),
    OWN: "The members have different validation images: each is calibrated on its own, their mean is left as it is.",
}


def ensemble_method(
    ensemble: Ensemble, members: Sequence[Method], name: str, source: str, settings: Settings
) -> Method:
    """What an ensemble says of the compared set, from what its members have written.

    Args:
        ensemble: to compare.
        members: methods of its members.
        name: of it.
        source: its folder; "" where it is not saved.
        settings: of the comparison.

    Raises:
        ValueError: the members were not scored on the same images, or the ensemble has no such decision rule.
    """
    predictions = ensemble.val if settings.split == "val" else ensemble.combine(settings.split)
    if predictions is None:
        raise ValueError(
            f"ensemble={ensemble.kind}: the members have different validation images, so that there are none that no "
            "member was trained on; compare on another split"
        )
    points = list(ensemble.points)
    decided = decide_by_rule(predictions, ensemble.calibration, points)
    if settings.rule not in decided:
        raise ValueError(f"the ensemble has no decision rule {settings.rule} (it has {', '.join(decided)})")
    found = summarise(
        predictions,
        ensemble.calibration,
        points,
        views=ensemble.views,
        num_resamples=settings.num_resamples,
        seed=settings.seed,
    )
    val = None if ensemble.val is None else auroc(ensemble.val.positives, ensemble.val.scores)
    runs = {member.run.path for member in ensemble.members}
    own = [method.facts for method in members if method.run is not None and method.run.path in runs]
    return method_of(
        predictions, decided[settings.rule], found, name=name, kind=ENSEMBLE, source=source or NOT_SAVED,
        rule=settings.rule, facts=sum_of_facts(ensemble.kind, own, val),
    )  # fmt: skip


def ensemble_part(
    ensemble: Ensemble, name: str, result: Result, settings: Settings
) -> tuple[str, Sequence[str], Sequence[Table]] | None:
    """Weights, calibration and the gain over the best member, for the page; None where it was not compared.

    Members of folds have no images in common with it, so that no gain can be told.
    """
    group, rows = result.group, result.page.methods
    single = best_single(ensemble.members)
    folders = [method.run.path if method.run is not None else None for method in group.methods]
    if name not in [m.name for m in group.methods]:
        return None
    first, titles = group.place(name), [row.title for row in rows]
    words, gains = [f"{titles[first]}: {COMBINES}. {_ON[ensemble.validation]}"], []
    if single.run.path in folders:
        second = folders.index(single.run.path)
        two = RowGroup((group.methods[first], group.methods[second]))  # not all others again
        pairs = compare_pairs(
            two, [(0, 1)], [titles[first], titles[second]], num_resamples=settings.num_resamples, seed=settings.seed
        )
        words.append(
            f"Its gain over the best single member by validation AUROC, {titles[second]}; the p-values are of this "
            "one comparison."
        )
        gains = [pair_table(pairs, is_against_one=False), resampled_table(pairs, is_against_one=False)]
    weighed = sorted(zip(ensemble.members, ensemble.weights, strict=True), key=lambda pair: -pair[1])
    weights = Table(("member", "weight"), tuple((m.name, f"{weight:.3f}") for m, weight in weighed))
    if ensemble.record:
        words.insert(1, (
            f"Chosen greedily by the {ensemble.record['chosen_by']}: from {ensemble.record['losses'][0]:.4f} with one "
            f"member to {min(ensemble.record['losses']):.4f}. The choice was made on these images, so that validation "
            "flatters it."
        ))  # fmt: skip
    if settings.split == "test" and group.methods[first].run is None and rows[first].source == NOT_SAVED:
        words.insert(
            1,
            "It is not saved, so that the ledger of looks does not name it: to compare it on test is a further choice "
            "all the same.",
        )
    return "Ensemble", words, [*gains, weights]
