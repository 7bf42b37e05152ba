from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pneumolit.report
from pneumolit.report.explanation_words import findings
from pneumolit.report.korean import TEXTS
from pneumolit.report.language import translate

REPORT = Path(pneumolit.report.__file__).parent
# Modules whose texts stand on the pages of a run.
SHOWN = (
    "card.py", "card_entry.py", "card_model.py", "card_partitions.py", "card_results.py", "card_study.py",
    "ensemble.py", "may_i_use.py", "provenance.py", "run_page.py", "run_record.py", "run_sections.py", "run_tables.py",
)  # fmt: skip
FILES = re.compile(r"(; )?([\w.]+(\.json|\.yaml|\.csv|\.jsonl|/)(, |; Xx|: [a-z_,]+)?)+")
# Stay in every language, or are put together with others before they are translated.
NOT_BY_THEMSELVES = {
    "python -m pneumolit.evaluate run_dir=FOLDER data=manifest data.manifest=ward7.csv name=ward7",
    "python -m pneumolit.explain run_dir=FOLDER split=Xx",
    "over patients", "over images: patients are not known", "Xx Test images changed nothing.",
    "Xx Validation chose thresholds and calibration, so its numbers flatter.", "Xx Xx chose the epoch.",
    "Xx Xx chose the epoch, so its images flatter as well.",
    ", Xx patients", "Xx (Xx imagesXx):", "Xx: Xx imagesXx", "Xx accuracy over all classes Xx.",
    "Xx AUROC Xx, sensitivity Xx, specificity Xx by the Xx rule.",
    "no class", " (this run)", ", Xx training images", " of Xx patients",
    "Xx after Xx", "ROC curve with the decision rules", "confusion matrix of all classes, by the largest logit",
    "confusion matrix of the headline rule", "distribution of the scores by class",
    "precision and recall with the decision rules", "reliability before and after calibration",
    "films to which the model gave the least probability of the truth",
}  # fmt: skip


# What the checks of heat maps can find, at both ends of every threshold.
STEP = {"median": 0.1, "quartiles": [0.0, 0.2], "num_images": 9, "num_empty_after": 1, "num_maps": 27}
REGION = {"share": 0.3, "area": 0.6, "ratio": 0.5, "interval": [0.4, 0.6], "against_random": None}
BESIDE = {**REGION, "interval": [1.1, 2.0], "against_random": 2.0, "against_random_interval": [1.0, 3.0]}
GAINS = [{"mean": 0.1, "interval": [0.0, 0.2], "p": 0.01}, {"mean": -0.1, "interval": [-0.2, 0.0], "p": 0.00001},
         {"mean": 0.1, "interval": [0.0, 0.2], "p": 0.4}, {"mean": 0.0, "interval": None, "p": None}]  # fmt: skip


def places(text: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", text)


def filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: values[m[1]], text)


def test_numbers_and_names_stay_and_sentences_are_filled() -> None:
    assert translate("0.942 [0.921, 0.960]", "ko") == "0.942 [0.921, 0.960]"
    assert translate("ward7", "ko") == "ward7"
    assert translate("AUROC and so on", "en") == "AUROC and so on"
    assert translate("sensitivity", "ko") == "민감도"
    assert translate("14 of 785 decisions by the primary rule are wrong.", "ko") == (
        "일차(primary) 규칙의 판정 785건 중 14건이 틀렸습니다."
    )


def test_of_a_list_each_part_is_translated() -> None:
    assert translate("Evaluated sets: Test, Validation, ward7.", "ko") == "평가한 세트: 시험 세트, 검증 세트, ward7."


def test_names_that_a_user_gave_stay_even_where_they_are_words_of_the_catalogue() -> None:
    assert translate("half", "ko") != "half"
    assert translate("pneumolit run half", "ko") == "pneumolit 실행 half"
    assert translate("The classes are normal, value; of these, pneumonia: value.", "ko") == (
        "범주는 normal, value이며, 그중 폐렴: value."
    )
    assert translate("The classes are a, b; of these, pneumonia: no class.", "ko").endswith("폐렴: 없음.")
    assert translate("Not chosen: run, value.", "ko") == "선택되지 않음: run, value."


def test_phantoms_are_not_counted_as_persons() -> None:
    text = "Of 1,000 {} of whom 100 have pneumonia, 95 would be flagged: 90 with pneumonia and 5 without. 10 with "
    text += "pneumonia would be missed."
    assert "명" not in translate(text.format("phantoms"), "ko") and "명" not in translate("Of 1,000 phantoms", "ko")
    assert "소아 1,000명 중 100명" in translate(text.format("children"), "ko")


def test_a_place_of_one_letter_takes_a_number_only() -> None:
    assert translate("12 epochs.", "ko") == "12 에폭."
    assert translate("some epochs.", "ko") == "some epochs."


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report\.language must be one of en, ko, got 'de'"):
        translate("sensitivity", "de")


def test_every_text_is_found_by_itself_and_keeps_its_places() -> None:
    for english, korean in TEXTS.items():
        names = list(dict.fromkeys(places(english)))
        assert set(names) == set(places(korean)), english
        values = {name: str(n + 3) if len(name) == 1 else f"Z{n}" for n, name in enumerate(names)}
        assert translate(filled(english, values), "ko") == filled(korean, values)


def test_every_sentence_that_the_pages_can_show_has_a_korean_one() -> None:
    found = {text for name in SHOWN for text in texts_of(REPORT / name)}
    english = {text for text in found if translate(text, "ko") == text and not FILES.fullmatch(text)}
    assert len(found) > 200  # else they were looked for in vain
    assert english == NOT_BY_THEMSELVES


def test_every_finding_of_the_checks_has_a_korean_one() -> None:
    found = set[str]()
    for gain, whole, without, median, beside, kind in itertools.product(
        GAINS, (0.5, 0.95), (0.4, 0.9), (None, 0.1, 0.8), (REGION, BESIDE), ("box", "masks")
    ):
        others = {"better_than_random": gain, "better_than_other": GAINS[median is None]}
        part = {"area_own": 0.5, "area_random": 0.6, "area_other": 0.5, **others}
        found |= set(
            findings(
                {
                    "split": "test",
                    "lungs": {"kind": kind},
                    "randomization": {**STEP, "median": median},
                    "removal": {"curves": {"deletion": {"own": [0.52]}}, "blurred": whole, "num_images": 9}
                    | {"deletion": part, "insertion": part},
                    "places": {"regions": {"lungs": beside, "border": beside, "corners": beside}},
                    "masked": {
                        "whole": {"auroc": whole, "interval": [0.1, 0.2]},
                        "without_lungs": {"auroc": without, "interval": None},
                        "lungs_only": {"auroc": 0.5, "interval": None},
                    },
                }
            )
        )
    found |= set(findings({"split": "val", "lungs": {"kind": "box"}, "randomization": None, "removal": None,
                           "places": {"regions": {}, "num_without_heat": 3}, "masked": None}))  # fmt: skip
    assert len(found) > 20
    words = {text: re.findall(r"[A-Za-z]{2,}", translate(text, "ko").replace("AUROC", "")) for text in found}
    assert {text: left for text, left in words.items() if left and left != ["n", "a"]} == {}


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a module with more than one word, f-strings with something in their places; no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed_by: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr):
            passed_by.add(id(node.body[0].value))
        text = ""
        if isinstance(node, ast.JoinedStr):
            passed_by |= {id(inner) for inner in ast.walk(node) if inner is not node}
            tries = [filled_in(node, value) for value in ("7", "Xx")]  # a place may want a number
            text = next((found for found in tries if translate(found, "ko") != found), tries[-1])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        if id(node) not in passed_by and " " in text.strip() and re.search(r"[a-z]{2}", text):
            yield text


def filled_in(node: ast.JoinedStr, value: str) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else value for part in node.values)
