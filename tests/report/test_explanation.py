"""Words, tables, pictures and page of an explanation, from checks made by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pneumolit.config import CONFIG_DIR
from pneumolit.report.explanation import digits, explanation_report, has_usual_box, p_value, unit
from pneumolit.report.explanation_figures import SIDE, draw_films, pair, scale_figure
from pneumolit.report.explanation_page import write_explanation
from pneumolit.report.explanation_words import findings, warnings_of
from pneumolit.report.explanations import NEAREST, RIGHT, WRONG
from pneumolit.rundir import ExplanationDir
from tests.report.made_explanation import BETTER, CHECKS, FILMS, LESS, REGION, changed, explanation, film


def said(checks: dict[str, Any]) -> str:
    return "\n".join(findings(checks))


def test_a_model_that_passes_every_check_gets_no_warning() -> None:
    words = findings(CHECKS)
    assert warnings_of(words) == []
    text = "\n".join(words)
    assert "over 64 images the median rank correlation (Spearman)" in text and "is 0.10" in text
    assert "2 of 192 maps of random weights hold no heat" in text
    assert "Deletion: taking the hottest pixels away first makes the probability fall faster" in text
    assert "80 % of the heat lies in the lung box, which is 60 % of the film: 1.300 [1.200, 1.400] times" in text
    assert "little is left of the ranking by what lies outside the lung box" in text


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"randomization__median": 0.5}, "is 0.50 .*not below .5.*no reasons of this model"),
        ({"randomization__median": None, "randomization__num_images": 0}, "nothing can be said"),
        ({"removal__deletion__better_than_random": {**BETTER, "p": 0.2}}, "fall no faster than random maps do"),
        ({"removal__insertion__better_than_random": {**BETTER, "mean": -0.1}}, "rise more slowly than random maps do"),
        ({"removal__blurred": 0.88}, "deletion and insertion can say nothing"),
        ({"places__regions__lungs": LESS}, "10 % of the heat lies in the lung box.*less than by chance"),
        ({"places__regions__corners": REGION}, "heat in the corners.*markers, collimation or padding may be read"),
        ({"places__regions": {}, "places__num_without_heat": 64}, "no heat at all in 64 images"),
        ({"masked__without_lungs": {"auroc": 0.92, "interval": [0.9, 0.94]}}, "0.920 .*what lies outside the lung box"),
        ({"masked__without_lungs": {"auroc": 0.1, "interval": [0.0, 0.2]}}, "0.100 .*what lies outside the lung box"),
    ],
)
def test_what_a_check_finds_wrong_is_one_warning(changes: dict[str, Any], warning: str) -> None:
    (found,) = warnings_of(findings(changed(**changes)))
    assert re.search(warning, found)


def test_heat_at_the_usual_place_is_told_from_heat_that_follows_the_film() -> None:
    assert said(CHECKS).count("They also beat the heat map of another film (0.650).") == 2
    text = said(changed(removal__insertion__better_than_other={**BETTER, "p": 0.4}))
    assert text.count("The heat map of another film does as well (0.650).") == 1
    text = said(changed(removal__insertion__better_than_other={**BETTER, "mean": -0.1}))
    assert text.count("The heat map of another film does better (0.650).") == 1 and "does as well" not in text


def test_few_images_are_said_to_say_little() -> None:
    assert "Fewer than 50 images" in said(changed(randomization__num_images=49))
    assert "Fewer than" not in said(changed(randomization__num_images=50))


def test_maps_without_heat_are_counted_among_all_that_were_made() -> None:
    assert "30 of 192 maps" in said(changed(randomization__num_images=8, randomization__num_empty_after=30))


def test_a_ratio_without_an_interval_is_said_alone() -> None:
    text = said(changed(places__regions__lungs={**REGION, "against_random_interval": None}))
    assert "and 1.300 times the share that the same network has with random weights" in text


def test_a_model_that_ranks_no_films_is_not_praised_for_needing_lungs() -> None:
    text = said(changed(masked__whole={"auroc": 0.55, "interval": [0.4, 0.7]}))
    assert "says nothing of lungs" in text and "as it should be" not in text


def test_a_box_is_not_called_lungs_and_a_mask_is_not_called_a_box() -> None:
    masks = changed(lungs={"kind": "masks", "box": None, "area": 0.3})
    assert "lung box" not in said(masks) and "in the lung mask" in said(masks)
    read = {"auroc": 0.92, "interval": [0.9, 0.94]}
    masks, box = changed(lungs=masks["lungs"], masked__without_lungs=read), changed(masked__without_lungs=read)
    assert "told apart without any lung" in said(masks)
    assert "without any lung" not in said(box) and "(in some films strips of lung too)" in said(box)
    report = explanation_report(explanation(), findings(CHECKS), title="t")
    assert "one box for all films" in report and "holds heart and chest wall too" in report


def test_of_a_box_that_a_user_drew_nothing_is_said_that_only_the_usual_one_holds() -> None:
    usual = yaml.safe_load((CONFIG_DIR / "explain.yaml").read_text())["lung_box"]
    for box, is_usual in ((usual, True), ([0.2, 0.2, 0.8, 0.8], False)):
        lungs = {"kind": "box", "box": box, "area": 0.36}
        report = explanation_report(explanation(changed(lungs=lungs)), [], title="t")
        assert "one box for all films" in report and ("holds heart and chest wall too" in report) == is_usual
        assert has_usual_box(changed(lungs=lungs)) == is_usual


def test_a_film_that_is_not_called_pneumonia_is_normal_only_where_no_other_class_is_left() -> None:
    one = dataclasses.replace(film(RIGHT, "a"), called="normal", side="normal")
    assert one.decision == "NORMAL, called normal, p 0.750"
    other = dataclasses.replace(one, negative="no pneumonia", side="pneumonia")
    assert other.decision == "NORMAL, called no pneumonia, p 0.750"
    assert other.heat_words("lung box").startswith("heat for pneumonia up to")


def test_on_test_it_says_what_was_left_out_and_why() -> None:
    assert "would be a further look" in said(changed(split="test", removal=None, masked=None))
    assert findings(changed(split="test", randomization=None, places=None, removal=None, masked=None)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4.0, "4.0"),
        (0.694, "0.69"),
        (0.00042, "0.00042"),
        (0.05, "0.050"),
        (12.3, "12"),
        (345.6, "346"),
        (2e6, "2e+06"),
    ],
)
def test_heat_of_any_size_is_written_with_two_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_the_unit_of_the_heat_is_stated() -> None:
    assert unit(CHECKS) == "logit per place of the model's 7 x 7 map"
    assert unit(changed(method="saliency")) == "logit per step from black to white at a pixel"
    assert (p_value(None), p_value(0.0001), p_value(0.04)) == ("n/a", "< .001", ".040")


def test_half_the_heat_looks_the_same_in_every_film_and_no_heat_leaves_the_film() -> None:
    shown = [pair(one, 32, 0.8) for one in (film(RIGHT, "a", 0.4), film(RIGHT, "b", 0.0))]
    assert shown[0].shape == (32, 64, 3)
    assert (shown[1][:, :32] == shown[1][:, 32:]).all()
    # Same film under full heat: colour takes three quarters.
    hot = pair(film(RIGHT, "a", 0.8), 32, 0.8)
    assert np.ptp(hot[:, 32:], axis=(0, 1)).max() < np.ptp(hot[:, :32], axis=(0, 1)).max() / 2
    assert (pair(film(RIGHT, "a", 0.0), 8, 0.0) <= 1).all()


def test_the_pictures_of_the_page_are_drawn_on_the_common_scale(tmp_path: Path) -> None:
    files = draw_films(explanation(), tmp_path)
    for one, file in zip(FILMS, files, strict=True):
        drawn = np.asarray(Image.open(file), dtype=float) / 255
        assert np.abs(drawn - pair(one, SIDE, CHECKS["scale"]["greatest"])).mean() < 0.02  # what JPEG loses


def test_the_bar_ends_at_the_greatest_heat() -> None:
    axes = scale_figure(0.4, "logit").axes[0]
    assert axes.get_xlim() == (0.0, 0.4)
    assert [label.get_text() for label in axes.get_xticklabels()][-1] == "0.40"
    assert scale_figure(0.0, "logit").axes[0].get_xticklabels()[0].get_text() == "no heat in any film"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> ExplanationDir:
    target = ExplanationDir(tmp_path_factory.mktemp("explanation") / "val")
    target.path.mkdir()
    target.picture_file(WRONG).write_bytes(b"of an earlier call")
    write_explanation(explanation(), target, run_name="run <1>")
    return target


def test_the_page_needs_no_other_file_and_every_picture_says_what_it_shows(written: ExplanationDir) -> None:
    page = written.page_file.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(alts) == page.count("<img ") == 3 + 1 + 3  # films, scale, checks
    assert "a.jpeg: NORMAL, called pneumonia, p 0.750; heat up to 0.40, 66 % in the lung box" in alts
    assert "&lt;c&gt; &amp; d.jpeg: NORMAL, called pneumonia, p 0.750; no heat" in alts
    assert (
        "Heat maps of the run run &lt;1&gt;: validation" in page and "None: no decision of this split is wrong." in page
    )
    assert str(written.path) not in page


def test_words_stand_in_the_file_that_the_page_of_the_run_reads(written: ExplanationDir) -> None:
    checks = json.loads(written.checks_file.read_text())
    assert checks["words"] == findings(CHECKS) and checks["randomization"] == CHECKS["randomization"]


def test_films_are_listed_and_sheets_of_an_earlier_call_are_gone(written: ExplanationDir) -> None:
    rows = list(csv.DictReader(io.StringIO(written.films_file.read_text())))
    assert [row["path"] for row in rows] == [one.path for one in FILMS]
    assert rows[0]["greatest_heat"] == "0.4" and rows[2]["lung_share"] == ""
    assert not written.picture_file(WRONG).exists()
    for name in (RIGHT, NEAREST, "scale", "randomization", "removal", "masked"):
        assert Image.open(written.picture_file(name)).size[0] > 300


def test_the_report_names_only_pictures_that_are_there(written: ExplanationDir) -> None:
    report = written.report_file.read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", report)
    assert pictures and all((written.path / name).is_file() for name in pictures)
    assert report.rstrip().endswith("not a medical device.")


def test_without_checks_the_page_says_so(tmp_path: Path) -> None:
    checks = changed(randomization=None, places=None, removal=None, masked=None)
    assert write_explanation(explanation(checks), ExplanationDir(tmp_path), run_name="r") == []
    page = (tmp_path / "explanation.html").read_text()
    assert "No check was made" in page and "Weights drawn anew" not in page


def test_of_saliency_the_page_does_not_say_that_heat_speaks_for_a_side(tmp_path: Path) -> None:
    speaks, coarse = "what is coloured speaks for the decision", "as coarse as its own"
    for method, shape in (("gradcam", [7, 7]), ("saliency", None)):
        folder = tmp_path / method
        folder.mkdir()
        write_explanation(explanation(changed(method=method, map_shape=shape)), ExplanationDir(folder), run_name="r")
        page = (folder / "explanation.html").read_text()
        assert (speaks in page, coarse in page) == (method == "gradcam", method == "gradcam")
        assert ("be it for either side" in page, "of 16 x 16 places" in page) == (method == "saliency",) * 2


def test_where_patients_are_not_known_neither_page_nor_report_counts_them(tmp_path: Path) -> None:
    for known, folder in ((True, tmp_path / "known"), (False, tmp_path / "unknown")):
        folder.mkdir()
        write_explanation(explanation(changed(has_patients=known)), ExplanationDir(folder), run_name="r")
        for text in ((folder / "explanation.html").read_text(), ExplanationDir(folder).report_file.read_text()):
            assert ("patient" in text) == known, folder
