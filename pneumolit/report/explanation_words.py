"""What the checks of heat maps found, in sentences; those that begin with `WARNING` are printed as warnings."""

from __future__ import annotations

from typing import Any

from pneumolit.report.explanation import lung_words, p_value
from pneumolit.report.tables import number, with_interval

WARNING = "Warning: "
FAITHFUL = 0.5  # a median rank correlation below this says that the maps depend on the weights
ENOUGH = 50  # images for that statement
# AUROC from which a ranking counts as acceptable: Hosmer and Lemeshow, Applied Logistic Regression, 2000.
HIGH_AUROC = 0.7
_EVEN = 1.001  # times even heat; on a map of a few places border and film are the same, and rounding decides
_SURE = 0.05  # level of significance
_STILL = 0.05  # mean change of the probability by blurring the whole film, below which deletion says little


def findings(checks: dict[str, Any]) -> list[str]:
    """Say what every check found, one or two sentences each, warnings marked.

    Args:
        checks: content of checks.json; a check that was not made is None.
    """
    words = []
    if checks["randomization"]:
        words.append(_randomization(checks["randomization"]))
    if checks["removal"]:
        words += _removal(checks["removal"])
    if checks["places"]:
        words += _places(checks["places"], lung_words(checks))
    if checks["masked"]:
        words += _masked(checks["masked"], lung_words(checks))
    if words and checks["split"] == "test":
        words.append(
            "Deletion, insertion and blanked lungs were left out: they score changed films, and on test that would be "
            "a further look."
        )
    return words


def warnings_of(words: list[str]) -> list[str]:
    """Those of the sentences that warn."""
    return [text for text in words if text.startswith(WARNING)]


def _randomization(found: dict[str, Any]) -> str:
    median, count = found["median"], found["num_images"]
    empty = found["num_empty_after"]
    if median is None:
        return (
            f"{WARNING}weights drawn anew: no image has heat both before and after, so nothing can be said of whether "
            "the heat maps depend on what was learned."
        )
    low, high = found["quartiles"]
    text = (
        f"weights drawn anew: over {count} images the median rank correlation (Spearman) between heat maps before and "
        f"after is {number(median, 2)} (middle half {number(low, 2)} to {number(high, 2)}), "
    )
    if median < FAITHFUL:
        text = text[0].upper() + text[1:] + "below .5: the maps depend on what the model has learned."
    else:
        text = (
            f"{WARNING}{text}not below .5: the maps show the shape of the network or the edges of the film as much as "
            "what was learned, and are no reasons of this model."
        )
    if count < ENOUGH:
        text += f" Fewer than {ENOUGH} images say little."
    if empty:
        text += f" {empty} of {found['num_maps']} maps of random weights hold no heat and do not count."
    return text


def _removal(found: dict[str, Any]) -> list[str]:
    kinds = {
        "deletion": "Deletion: taking the hottest pixels away first makes the probability fall",
        "insertion": "Insertion: giving the hottest pixels first makes the probability rise",
    }
    sharp = found["curves"]["deletion"]["own"][0]
    if abs(sharp - found["blurred"]) < _STILL:
        return [
            f"{WARNING}the mean probability of the explained side is {number(sharp, 2)} for sharp films and "
            f"{number(found['blurred'], 2)} for wholly blurred ones; deletion and insertion can say nothing."
        ]
    words = []
    for name, what in kinds.items():
        part = found[name]
        better = part["better_than_random"]
        areas = f"area under the curve {number(part['area_own'])} against {number(part['area_random'])}"
        by = f"better by {_difference(better)}, p {_equals(better['p'])}"
        if better["p"] is None or better["p"] >= _SURE:
            text = (
                f"{WARNING}{what[0].lower()}{what[1:]} no faster than random maps do, as far as {found['num_images']} "
                f"images tell ({areas}; {by})."
            )
        elif better["mean"] > 0:
            text = f"{what} faster than random maps do ({areas}; {by}).{_against_another(part)}"
        else:
            text = (
                f"{WARNING}{what[0].lower()}{what[1:]} more slowly than random maps do ({areas}; {by}): the heat "
                "lies where the score does not depend on it."
            )
        words.append(text)
    return words


def _against_another(part: dict[str, Any]) -> str:
    """Heat at the usual place beats random maps too; whether it follows this film, another film's map tells."""
    other = part["better_than_other"]
    if other["p"] is not None and other["p"] < _SURE:
        if other["mean"] > 0:
            return f" They also beat the heat map of another film ({number(part['area_other'])})."
        return f" The heat map of another film does better ({number(part['area_other'])})."
    return f" The heat map of another film does as well ({number(part['area_other'])})."


def _places(found: dict[str, Any], name: str) -> list[str]:
    regions = found["regions"]
    if not regions:
        return [f"{WARNING}no heat at all in {found['num_without_heat']} images, so it lies nowhere."]
    lungs = regions["lungs"]
    words = [
        f"{100 * lungs['share']:.0f} % of the heat lies in the {name}, which is "
        f"{100 * lungs['area']:.0f} % of the film: {with_interval(lungs['ratio'], lungs['interval'])} times what even "
        f"heat would give{_against(lungs)}."
    ]
    if lungs["interval"] is not None and lungs["interval"][1] < 1:
        words[0] = f"{WARNING}{words[0][:-1]}: less than by chance."
    for key, label in (("border", "at the border (a tenth of the side)"), ("corners", "in the corners")):
        region = regions[key]
        text = f"heat {label}: {with_interval(region['ratio'], region['interval'])} times even heat{_against(region)}"
        if region["interval"] is not None and region["interval"][0] > _EVEN:
            text = f"{WARNING}{text}; markers, collimation or padding may be read."
        else:
            text = f"{text[0].upper()}{text[1:]}."
        words.append(text)
    return words


def _against(region: dict[str, Any]) -> str:
    if region["against_random"] is None:
        return ""
    ratio = with_interval(region["against_random"], region["against_random_interval"])
    return f", and {ratio} times the share that the same network has with random weights"


def _masked(found: dict[str, Any], name: str) -> list[str]:
    whole, without, only = (
        with_interval(found[key]["auroc"], found[key]["interval"]) for key in ("whole", "without_lungs", "lungs_only")
    )
    text = f"with the {name} blanked the AUROC is {without}, with whole films {whole}"
    auroc, whole_auroc = found["without_lungs"]["auroc"], found["whole"]["auroc"]
    if max(whole_auroc, 1 - whole_auroc) < HIGH_AUROC:
        text = f"{text[0].upper()}{text[1:]}: whole films are hardly ranked either, so this says nothing of lungs."
    elif max(auroc, 1 - auroc) >= HIGH_AUROC:  # a ranking the wrong way round tells the classes apart as well
        if name == "lung box":
            text = (
                f"{WARNING}{text}: films can be told apart by what lies outside the lung box (in some films strips of "
                "lung too), so the model can decide by something else: position, markers, exposure, soft tissue."
            )
        else:
            text = (
                f"{WARNING}{text}: films can be told apart without any lung, so the model can decide by something "
                "else: position, markers, exposure, soft tissue (or by the shape of the blank, which follows the "
                "lungs)."
            )
    elif name == "lung box":
        text = (
            f"{text[0].upper()}{text[1:]}: little is left of the ranking by what lies outside the lung box, as it "
            "should be."
        )
    else:
        text = f"{text[0].upper()}{text[1:]}: little is left of the ranking without lungs, as it should be."
    return [text, f"With all but the {name} blanked the AUROC is {only}."]


def _difference(better: dict[str, Any]) -> str:
    """Rounded before it is written: -0.000 reads oddly."""
    ends = better["interval"]
    return with_interval(
        round(better["mean"], 3) + 0.0, None if ends is None else [round(end, 3) + 0.0 for end in ends]
    )


def _equals(p: float | None) -> str:
    said = p_value(p)
    return said if said.startswith(("<", "n")) else f"= {said}"
