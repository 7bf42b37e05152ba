"""Methods become rows of the leaderboard; one of them is the reference."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pneumolit.comparison.method import ENSEMBLE, Method
from pneumolit.comparison.rows import RowGroup
from pneumolit.report.comparison import NUMBERS, MethodRow


def choose_reference(methods: Sequence[Method], wanted: str | None, split: str = "test") -> tuple[Method, str]:
    """The method that the others are tested against, and in words how it was chosen.

    Args:
        methods: at least one.
        wanted: its name, its folder or file, or the end of one; None takes the run with the best AUROC on validation,
            which no test image had a part in. An ensemble is none: validation chose and calibrated it.
        split: name of the compared set.

    Raises:
        ValueError: no method, or more than one, is meant.
    """
    if wanted is not None:
        return _named(methods, wanted), "named by reference="
    if len(methods) == 1:
        return methods[0], "the only one on these images"
    known = [m for m in methods if m.facts.val_auroc is not None and m.kind != ENSEMBLE]
    if not known:
        return methods[0], "the first one given, since none of them has a validation AUROC"
    best = max(known, key=lambda method: method.facts.val_auroc or 0.0)  # the first of equals
    part = {"val": " (chosen by these very images)", "train": ""}.get(split, "; this set had no part in it")
    if split != "val" and best.facts.chosen_by.startswith(f"{split}/"):
        part = f"; these images chose its epoch ({best.facts.chosen_by})"
    return best, f"the highest validation AUROC ({best.facts.val_auroc:.4f}) of {len(known)}{part}"


def in_order(group: RowGroup) -> RowGroup:
    """The methods of a group by AUROC, else by accuracy, best first; equals as they were given."""

    def goodness(method: Method) -> float:
        value = method.metrics["ranking"]["auroc"] if method.scores is not None else None
        return float(method.view["accuracy"] if value is None else value)

    return RowGroup(tuple(sorted(group.methods, key=lambda method: -goodness(method))), group.note)


def method_row(method: Method, number: int, *, is_reference: bool = False, reason: str = "") -> MethodRow:
    """A line of the leaderboard.

    Args:
        method: with its numbers.
        number: that stands for it.
        is_reference: whether the others are tested against it.
        reason: why it is not compared with the others.
    """
    view, metrics, facts = method.view, method.metrics, method.facts
    numbers = {name: view[name] for name in NUMBERS if view.get(name) is not None}
    if view["macro"]["f1"] is not None:
        numbers["macro_f1"] = view["macro"]["f1"]
    intervals = {name: view_interval for name, view_interval in method.view_intervals.items() if view_interval}
    counts = None
    if method.scores is not None:
        ranking = {name: value for name, value in metrics["ranking"].items() if value is not None}
        numbers |= {name: ranking[name] for name in NUMBERS if name in ranking}
        intervals |= {name: found for name, found in metrics["intervals"]["ranking"].items() if found}
        (tn, fp), (fn, tp) = view["confusion"]
        counts = (tn, fp, fn, tp)
    told = {
        "model": facts.model, "trained": facts.trained, "epochs": facts.epochs, "seed": facts.seed,
        "configuration": facts.configuration, "val_auroc": facts.val_auroc, "train_accuracy": facts.train_accuracy,
        "train_loss": facts.train_loss, "parameters": facts.parameters, "trainable": facts.trainable,
        "seconds": facts.seconds, "machine": facts.machine,
    }  # fmt: skip
    return MethodRow(
        number=number,
        name=method.name,
        kind=method.kind,
        source=method.source,
        rule=method.rule,
        num_images=len(method),
        num_patients=len(set(method.patient_ids)),
        right=int(method.correct.sum()),
        numbers=numbers,
        intervals={name: list(found) for name, found in intervals.items() if name in NUMBERS},
        distinction=method.distinction,
        counts=counts,
        is_reference=is_reference,
        facts={name: value for name, value in told.items() if value not in (None, "")},
        is_loss_logged=facts.is_loss_logged,
        notes=method.notes,
        look=str(metrics.get("context", {}).get("look", "")),
        reason=reason,
    )


def _named(methods: Sequence[Method], wanted: str) -> Method:
    for found in (
        [m for m in methods if m.name == wanted],
        [m for m in methods if Path(m.source).expanduser().absolute() == Path(wanted).expanduser().absolute()],
        [m for m in methods if Path(m.source).name == wanted],
        [m for m in methods if wanted.lower() in m.name.lower()],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"reference={wanted} may mean {', '.join(m.name for m in found[:5])}; give one folder or name"
            )
    near = difflib.get_close_matches(wanted, [m.name for m in methods], n=3, cutoff=0.4)
    offer = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"reference={wanted} is none of the {len(methods)} methods that are compared{offer}")
