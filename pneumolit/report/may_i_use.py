"""The page "may I use this here?": what the model has seen, what a result would mean, where it is known to fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pneumolit.evaluation.prevalence import PREVALENCES, at_prevalence
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.explanation_words import WARNING, warnings_of
from pneumolit.report.explanations import read_words
from pneumolit.report.html import Section, run_page
from pneumolit.report.provenance import KAGGLE, Provenance, provenance
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.tables import Table, headline_rule, number, rule_label, share_text, with_interval

TITLE = "May I use this here?"
SHORT_ANSWER = (
    "For research, for teaching and to compare methods: yes. To decide anything about a person: no. It is not a "
    "medical device, and nobody has tested it in care."
)
_EXAMPLE = 0.10  # the one that is said in a sentence
_NOTABLE = 0.02  # a gap of this size, 20 of 1,000, is worth a sentence of its own
# Vergouwe et al., Journal of Clinical Epidemiology 58, 2005: at least 100 with and 100 without the outcome.
_LEAST_CASES = 100


def may_i_use_page(record: RunRecord, language: str) -> str:
    """Write the page of a run.

    Args:
        record: at least one set was evaluated.
        language: of the page.
    """
    known = provenance(record)
    weights = record.environment["weights"]
    summary = [
        ("Short answer", SHORT_ANSWER),
        ("Model", str(weights["name"])),
        ("Run", record.run.path.name),
        ("Learned from", known.name),
        ("Numbers below are from", set_title(record.main_set)),
    ]
    return run_page(title=TITLE, summary=summary, sections=sections(record, known), language=language)


def sections(record: RunRecord, known: Provenance) -> list[Section]:
    """All of the page below its box."""
    seen = [text for text in (known.population, known.acquisition, known.negatives_of(record.data)) if text]
    found = [Section("What it has seen", items=[*seen, *_seen_counts(record)])]
    if "rules" in record.main:
        found.append(_meaning(record.main, known.people))
        found.append(Section("Known failures of this run", items=list(failures(record)), tone="warning"))
    else:
        found.append(Section("What a result would mean", [_NO_TWO_CLASSES], tone="warning"))
    found += [Section("About whom it says nothing", items=_unknown(record, known)), _before_use(record)]
    return found


_NO_TWO_CLASSES = (
    "No class of this data means pneumonia (data.positive is empty), so sensitivity, specificity and what follows from "
    "them are not defined for this run."
)


def natural_frequencies(metrics: dict[str, Any]) -> Table:
    """What the headline rule would do to 1,000 people, at the prevalences of the record.

    Args:
        metrics: with a two-class view.
    """
    rule = metrics["rules"][headline_rule(metrics)]
    rows = []
    for found in at_prevalences(metrics):
        counts = _of_a_thousand(rule, found["prevalence"])
        rows.append((share_text(found["prevalence"]), *(str(count) for count in counts)))
    header = (
        "prevalence",
        "with pneumonia",
        "flagged",
        "flagged, with pneumonia",
        "flagged, without",
        "missed",
        "rightly not flagged",
    )
    return Table(header, tuple(rows))


def predictive_values(metrics: dict[str, Any]) -> Table:
    """PPV and NPV of the headline rule, with intervals."""
    rows = [
        (
            share_text(found["prevalence"]),
            *(with_interval(found[key], found["intervals"][key]) for key in ("ppv", "npv")),
        )
        for found in at_prevalences(metrics)
    ]
    return Table(("prevalence", "PPV", "NPV"), tuple(rows))


def at_prevalences(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The headline rule at stated prevalences, from the record or, where an older one lacks them, computed as there.

    Empty where sensitivity or specificity is undefined.
    """
    name = headline_rule(metrics)
    if "prevalences" in metrics:
        return list(metrics["prevalences"].get(name, []))
    rule, ranges = metrics["rules"][name], metrics["intervals"]["rules"][name]
    if rule["sensitivity"] is None or rule["specificity"] is None:
        return []
    return [
        at_prevalence(
            rule["sensitivity"],
            rule["specificity"],
            prevalence,
            threshold=rule["threshold"],
            intervals=(ranges["sensitivity"], ranges["specificity"]),
        )
        for prevalence in PREVALENCES
    ]


def failures(record: RunRecord) -> Iterable[str]:
    """Where this run is known to do worse than its headline, one sentence each."""
    metrics = record.main
    name, rule = record.main_set, metrics["rules"][headline_rule(metrics)]
    if name == "val":
        if record.has_test:
            yield (
                "The test split was not scored in this run. Validation images come from the same collection as the "
                "training images: expect less of others."
            )
        else:
            yield (
                "There is no test side. Validation images come from the same collection as the training images: "
                "expect less of others."
            )
        if provenance(record) is KAGGLE and record.has_given_test:
            yield "In published work on this set the test split did not keep the specificity that validation promised."
    yield from _gaps(rule)
    yield from _subgroups(metrics)
    yield from _stress(record)
    yield from _heat_maps(record)
    (_, wrong), (missed, _) = rule["confusion"]
    yield (
        f"{set_title(name)}: {wrong} of {sum(rule['confusion'][0])} images without pneumonia were flagged, and "
        f"{missed} of {sum(rule['confusion'][1])} with pneumonia were missed."
    )


def _seen_counts(record: RunRecord) -> list[str]:
    side = record.sides.get("train")
    if side is None:
        return []
    classes = ", ".join(f"{name} {count:,}" for name, count in side.classes.items())
    if not record.has_patients:
        return [f"It was trained on {side.num_images:,} images ({classes}).", PATIENTS_UNKNOWN]
    patients = f"{len(side.patients):,}"
    return [f"It was trained on {side.num_images:,} images of {patients} patients ({classes})."]


def _meaning(metrics: dict[str, Any], people: str) -> Section:
    rule = headline_rule(metrics)
    found = metrics["rules"][rule]
    heading = "What a result would mean"
    if not at_prevalences(metrics):
        return Section(heading, ["Images of one of the two classes are missing, so this cannot be said."])
    ill, flagged, right, wrong, missed, _ = _of_a_thousand(found, _EXAMPLE)
    words = [
        f"Decisions by the {rule_label(rule)} rule, with the sensitivity ({number(found['sensitivity'])}) and the "
        f"specificity ({number(found['specificity'])}) found on {metrics['num_images']} images. The share of pneumonia "
        "there was chosen by whoever gathered the images; where fewer have pneumonia, more of the flagged "
        "have no pneumonia.",
        f"Of 1,000 {people} of whom {ill} have pneumonia, {flagged} would be flagged: {right} with pneumonia and "
        f"{wrong} without. {missed} with pneumonia would be missed.",
    ]
    tables = [
        Section(f"Of 1,000 {people}", tables=[natural_frequencies(metrics)]),
        Section("Predictive values", tables=[predictive_values(metrics)], note=_PREDICTIVE_NOTE),
    ]
    return Section(heading, words, parts=tables)


_PREDICTIVE_NOTE = (
    "PPV: share with pneumonia among the flagged. NPV: share without pneumonia among those not flagged. Both assume "
    "that sensitivity and specificity stay what they are here, which has to be shown first."
)


def _gaps(rule: dict[str, Any]) -> Iterable[str]:
    promised = rule.get("promised")
    if promised is None:
        return
    for key in ("specificity", "sensitivity"):
        before, now = promised[key], rule[key]
        if before is None or now is None:
            continue
        gap = now - before
        if gap <= -_NOTABLE:
            cases = "images without pneumonia" if key == "specificity" else "images with pneumonia"
            yield (
                f"Validation promised a {key} of {number(before)}, and {number(now)} was found: of 1,000 {cases}, "
                f"{-1000 * gap:.0f} more are decided wrongly than promised."
            )
        elif gap < 0 and number(before) != number(now):
            yield f"Validation promised a {key} of {number(before)}, and {number(now)} was found."


def _subgroups(metrics: dict[str, Any]) -> Iterable[str]:
    for key in ("sensitivity", "specificity"):
        groups = [group for group in metrics.get("subgroups", []) if group.get(key) is not None]
        if len(groups) > 1:
            worst = min(groups, key=lambda group: float(group[key]))
            interval = (worst.get("intervals") or {}).get(key)
            count, ill = worst["num_images"], worst.get("num_positives")
            if ill is not None:  # which older records do not have
                count = ill if key == "sensitivity" else count - ill
            yield (
                f"The lowest {key} of a subgroup is {with_interval(worst[key], interval)}, on {count} "
                f"images ({worst['kind']}: {worst['name']})."
            )


def _stress(record: RunRecord) -> Iterable[str]:
    scored = record.scored_epoch
    plain, distorted = scored.get("val/balanced_accuracy"), scored.get("stress/balanced_accuracy")
    if plain is not None and distorted is not None:
        yield (
            "On distorted copies of the validation images (resampled, sharpened, strongly compressed, of other "
            f"contrast, noisy) balanced accuracy by the largest logit is {number(distorted)} instead of "
            f"{number(plain)}."
        )


def _heat_maps(record: RunRecord) -> Iterable[str]:
    """What the checks of heat maps warn of, on whichever set they were made."""
    for name in record.evaluations:
        for text in warnings_of(read_words(record.run, name)):
            yield f"Heat maps ({set_title(name)}): {text.removeprefix(WARNING)}"


def _unknown(record: RunRecord, known: Provenance) -> list[str]:
    always = (
        "Age, sex, ethnicity, device and date of the images are not in the data, so nobody can say whether it does "
        "worse for some of them."
    )
    if known.people == "children":
        return [
            "Adults, newborn and older children: none was in the data.",
            "Other hospitals, and other projections (posterior-anterior, lateral): none was in the data. Which "
            "devices, and whether films were taken at the bedside, is not recorded.",
            "Other findings, such as effusion, tuberculosis or a foreign body: it knows no answer for them.",
            always,
        ]
    if known.people == "phantoms":
        return ["All people: no person was in the data."]
    return ["Whoever is not like those in the data, and who they are the record does not say.", always]


def _before_use(record: RunRecord) -> Section:
    steps = [
        f"Local validation: consecutive radiographs of your own, at least {_LEAST_CASES} with and {_LEAST_CASES} "
        "without pneumonia, labelled by two readers who do not see the score. The command below scores them with this "
        "run's own preprocessing and thresholds.",
        "Look at the gap between promise and finding there, at the calibration, and at the subgroups that matter to "
        "you; choose a threshold anew on one part of the images and test it on another.",
        "A study in care, the approval that your country asks of a medical device, and a plan to watch it afterwards.",
    ]
    # Where the run lies is nobody's business, and from where the command is called is not known.
    command = "python -m pneumolit.evaluate run_dir=FOLDER data=manifest data.manifest=ward7.csv name=ward7"
    note = "FOLDER: the folder of the run, not of a bundle exported from it. ward7.csv: path,label,patient_id"
    others = record.other_sets
    done = [f"Other sets that this run was scored on so far: {', '.join(others)}."] if others else []
    return Section("What would have to be done first", [*done], items=steps, code=command, note=note)


def _of_a_thousand(rule: dict[str, Any], prevalence: float) -> tuple[int, ...]:
    """With pneumonia, flagged, rightly and wrongly so, missed, rightly not flagged: whole people that add up."""
    ill = round(1000 * prevalence)
    right, spared = round(ill * rule["sensitivity"]), round((1000 - ill) * rule["specificity"])
    wrong = 1000 - ill - spared
    return ill, right + wrong, right, wrong, ill - right, spared
