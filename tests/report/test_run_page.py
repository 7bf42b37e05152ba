from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pneumolit.evaluation.calibration import Calibration
from pneumolit.report import run_sections
from pneumolit.report.card_study import headline_sentence
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.language import translate
from pneumolit.report.run_page import report_page, summary_box, write_page
from pneumolit.report.run_record import RunRecord
from pneumolit.report.run_sections import set_sections
from pneumolit.report.run_tables import MOST_LOOKS, last_part, looks_table
from pneumolit.rundir import RunDir, record_look

PAGES = ("report.html", "model_card.html", "may_i_use.html")
NEWER = ("prevalences", "calibration", "subgroups")  # keys that metrics.json has since its second format
# Words that a Korean page may hold: names of classes, measures, guidelines, journals, licences, places, programs.
KEPT = re.compile(
    r"(?<![A-Za-z0-9])("  # no part of a hash
    r"NORMAL2?(-IM)?|BACTERIA|VIRUS|PNEUMONIA|AUROC|F1|ROC|PPV|NPV|CLAIM|TRIPOD\+AI|\d+[a-g]|README|Apache-2\.0|SHA-256|"
    r"CC BY 4\.0|Mendeley Data|doi:\S+|Kermany|Cell|Guangzhou Women and Children's Medical Center|Obuchowski|Wilson|IM|"
    r"Chest X-Ray Images \(Pneumonia\)|Tejani|Collins|BMJ|e\d+|Radiology: Artificial Intelligence|2024 Update|Kaggle|"
    r"Checklist for Artificial Intelligence in Medical Imaging|ImageNet|DICOM|JPEG|EXIF|X|AP|CT|Python|pneumolit|Linux|"
    r"primary|argmax|half|youden|reliability|in the large|manifest|AdamW|cosine|cross_entropy|linear|freeze|seed|"
    r"random|stress|kaggle|none|train test=true|UTC|path,label,patient_id"
    r")(?![A-Za-z0-9])"
)
NAME = re.compile(r"[\w.-]*[\d_.=/\\:][\w./=\\:-]*|`[^`]*`|test_resnet|last|best")  # files, versions, keys, commands


class Texts(HTMLParser):
    """Everything that a page says, code aside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += [tag] if tag in ("style", "script", "pre") else []
        self.found += [text for name, text in attrs if name in ("alt", "aria-label", "title") and text]

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside and data.strip():
            self.found.append(data)


def english_words(run: Path, name: str) -> set[str]:
    """Words of a page that neither are Korean nor names."""
    page, environment = (run / name).read_text(), (run / "environment.json").read_text()
    root = Path(yaml.safe_load((run / "config.yaml").read_text())["data"]["root"]).name
    cells = {text.strip() for text in Texts(page).found}
    known = {text for text in cells if re.fullmatch(r"[\w+.-]+", text)}  # one word: found by the catalogue or a name
    left = {NAME.sub(" ", KEPT.sub(" ", text)) for text in cells - known}
    words = {word for text in left for word in re.findall(r"[A-Za-z]{2,}", text)}
    return words - set(re.findall(r"[A-Za-z]+", environment)) - {root}


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_training_leaves_the_page_the_card_and_the_page_on_use(finished: Path) -> None:
    assert {*PAGES, "model_card.md"} <= {path.name for path in finished.iterdir()}
    page = (finished / "report.html").read_text()
    for heading in (
        "May I use this here?", "All evaluated sets", "Result", "Curves", "Decision rules", "At other prevalences",
        "What validation promised and what was found", "Subgroups", "Calibration", "Confusion matrices", "Worst errors",
        "Validation", "Training", "What was trained", "Sides of the split", "Environment", "Looks at the test split",
        "Configuration",
    ):  # fmt: skip
        assert heading in headings(page)
    assert "look 1 of this test set, configuration 1" in page
    assert 'href="may_i_use.html"' in page and 'href="model_card.html"' in page
    assert "Research software, not a medical device." in page


def test_a_metrics_file_of_the_first_format_still_gives_a_page(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "old"))
    for file in run.glob("evaluation/*/metrics.json"):
        metrics = {key: value for key, value in json.loads(file.read_text()).items() if key not in NEWER}
        file.write_text(json.dumps(metrics | {"format_version": 1}))
    write_page(RunDir(run))
    found = headings((run / "report.html").read_text())
    assert "Decision rules" in found and "Subgroups" not in found
    assert "Obuchowski" not in (run / "report.html").read_text()  # how newer intervals are made
    assert "Predictive values" in (run / "may_i_use.html").read_text()


def test_in_korean_no_english_sentence_is_left_on_any_page(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run_1"))
    write_page(RunDir(run), "ko")
    for name in PAGES:
        page = (run / name).read_text()
        assert '<html lang="ko">' in page
        assert english_words(run, name) == set(), name
        assert "연구용 소프트웨어이며 의료기기가 아닙니다." in page
    card = (run / "model_card.md").read_text()
    assert card.startswith("# 모델 카드: run_1\n") and card.endswith("의료기기가 아닙니다.\n")


def test_a_text_that_the_catalogue_lacks_would_be_seen(finished: Path) -> None:
    assert {"Worst", "errors", "by"} <= english_words(finished, "report.html")


def test_no_epoch_is_said_to_be_chosen_where_the_last_one_is_scored(finished: Path) -> None:
    record = RunRecord.read(RunDir(finished))
    assert "Thresholds and calibration were chosen on validation;" in report_page(record, "en")
    checkpoint = {"use": "best", "monitor": "block/auroc"}
    config = {**record.config, "callbacks": {**record.config["callbacks"], "checkpoint": checkpoint}}
    best = dataclasses.replace(record, config=config, status={**record.status, "checkpoint": "best"})
    said = "The epoch was chosen by block/auroc, thresholds and calibration on validation; the test split took part in"
    assert said in report_page(best, "en")


def test_where_patients_are_not_known_no_interval_is_said_to_be_over_them_in_either_language(finished: Path) -> None:
    unknown = dataclasses.replace(RunRecord.read(RunDir(finished)), has_patients=False)
    box = dict(summary_box(unknown))
    assert box["Intervals"] == "95 %, over images: patients are not known"
    page = report_page(unknown, "en")
    assert "over patients" not in page and "value [95 % interval over images]" in page
    assert page.count(PATIENTS_UNKNOWN) == len(unknown.evaluations)
    header = set_sections(unknown, "test")[0].tables[0].header
    assert [translate(text, "ko") for text in header] == ["지표", "값 [영상 단위 95 % 신뢰구간]"]
    assert "patients" not in box["Data"] + box["Scored on"]
    assert translate(box["Intervals"], "ko") == "95 %, 영상 단위(환자를 알 수 없음)"
    for sentence in (box["Scored on"], headline_sentence(unknown, "test")):
        left = re.findall(r"[a-z]{2,}", translate(sentence, "ko").replace("primary", ""))
        assert left == []


def test_calibration_is_explained_by_the_rows_that_its_table_has(record: RunRecord) -> None:
    def words(name: str) -> str:
        found = next(s for s in set_sections(found_in, name) if s.heading == "Calibration")
        return found.paragraphs[-1]

    found_in = record
    assert words("val").startswith("Slope, intercept and thresholds were fitted on these images. Slope 1")
    assert words("test").endswith("the row at this class mix takes that out.")
    test = record.evaluations["test"]
    older = {**test, "calibration": {k: v for k, v in test["calibration"].items() if k != "rebased"}}
    found_in = dataclasses.replace(record, evaluations={"test": older})
    assert "class mix" not in words("test")
    assert translate(words("test"), "ko").startswith("기울기 1, 절편 0이 이상적입니다.")


def test_the_language_is_that_of_the_configuration_unless_another_is_asked_for(finished: Path, tmp_path: Path) -> None:
    run = RunDir(shutil.copytree(finished, tmp_path / "run"))
    run.metrics_file.unlink()  # no curves to draw, which takes most of the time
    cfg = yaml.safe_load(run.config_file.read_text())
    for stored, asked, language in (
        ({"language": "ko"}, None, "ko"),
        ({"language": "ko"}, "en", "en"),
        (None, None, "en"),
    ):
        run.config_file.write_text(yaml.safe_dump({**cfg, "report": stored}))
        write_page(run, asked)
        assert f'<html lang="{language}">' in run.page_file.read_text()


def test_evaluate_writes_the_page_in_the_language_that_it_is_given(
    command: Callable[..., Any], copied_run: Path
) -> None:
    assert command("evaluate", f"run_dir={copied_run}", "report.language=ko").code == 0
    assert '<html lang="ko">' in (copied_run / "report.html").read_text()
    refused = command("evaluate", f"run_dir={copied_run}", "report.language=kr")
    assert refused.code == 2 and "report.language must be null or one of en, ko, got 'kr'" in refused.err


def test_a_run_that_nothing_was_scored_of_gets_no_page(finished: Path, tmp_path: Path) -> None:
    run = Path(
        shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("*.html", "*.md", "evaluation"))
    )
    write_page(RunDir(run))
    assert not list(run.glob("*.html")) and not (run / "model_card.md").exists()


def test_a_set_of_other_origin_stands_on_the_page_and_in_the_card(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.copytree(run / "evaluation" / "test", run / "evaluation" / "ward7")
    write_page(RunDir(run))
    page = (run / "report.html").read_text()
    assert "ward7" in headings(page)
    assert "split=ward7" not in page  # explain takes the run's own sides only
    assert "Sets of other origin that were scored: ward7." in (run / "model_card.md").read_text()
    assert "Other sets that this run was scored on so far: ward7." in (run / "may_i_use.html").read_text()


def test_the_worst_films_are_drawn_when_a_set_is_scored_and_shown_on_the_page(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for name, title in (("val", "Validation"), ("test", "Test")):
        with Image.open(finished / "evaluation" / name / "errors.png") as sheet:
            assert sheet.width > 1000
        assert f'alt="{title}: films to which the model gave the least probability of the truth"' in page


def test_evaluate_draws_the_worst_films_of_another_set(
    command: Callable[..., Any], copied_run: Path, finished: Path
) -> None:
    assert command("evaluate", f"run_dir={copied_run}", "split=train").code == 0
    assert (copied_run / "evaluation" / "train" / "errors.png").is_file()
    assert 'alt="Training images: films to which' in (copied_run / "report.html").read_text()


def test_heat_maps_are_shown_where_they_were_checked_else_the_command(finished: Path, tmp_path: Path) -> None:
    assert "python -m pneumolit.explain run_dir=FOLDER split=test" in (finished / "report.html").read_text()
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    folder = run / "explanation" / "test"
    folder.mkdir(parents=True)
    Image.new("L", (9, 9)).save(folder / "surest_wrong.png")
    (folder / "checks.json").write_text('{"words": ["Warning: no heat at all in 3 images, so it lies nowhere."]}')
    (folder / "explanation.html").write_text("")
    write_page(RunDir(run))
    page = (run / "report.html").read_text()
    assert 'alt="heat maps: surest wrong"' in page and "split=test" not in page
    assert "<li>Warning: no heat at all in 3 images" in page
    assert 'href="explanation/test/explanation.html"' in page
    assert "Test: films to which" not in page  # the sheet of surest errors shows them already
    assert "Heat maps with their checks" in (run / "model_card.md").read_text()
    (folder / "checks.json").write_text("{broken")
    write_page(RunDir(run), "ko")
    assert "히트맵: 가장 확신하고 틀린 사례" in (run / "report.html").read_text()


def test_looks_at_this_test_set_are_listed_and_others_are_not(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "train" / "run"))
    shutil.copy(finished.parents[1] / "test_looks.jsonl", tmp_path)
    test_set = json.loads((run / "data.json").read_text())["fingerprints"]["test"]
    record_look(tmp_path, run="a/b/run", configuration="abc", test_set=test_set, purpose="evaluate split=test")
    record_look(tmp_path, run="a/b/stranger", configuration="abc", test_set="other", purpose="train test=true")
    write_page(RunDir(run))
    texts = Texts((run / "report.html").read_text()).found
    assert "run (this run)" in texts and "evaluate split=test" in texts
    assert not [text for text in texts if "stranger" in text or "a/b" in text]
    assert "This test set was looked at 2 times" in (run / "model_card.md").read_text()


def test_a_run_s_own_look_is_listed_however_many_came_later(record: RunRecord) -> None:
    own, other = ({"run": f"a/b/{name}", "time": ""} for name in (record.run.path.name, "stranger"))
    rows = looks_table(dataclasses.replace(record, looks=[own, other, *[other] * MOST_LOOKS])).rows
    assert [row[0] for row in rows] == ["1", *(str(n) for n in range(3, MOST_LOOKS + 3))]


@pytest.mark.parametrize("path", ["chest_xray", "/data/chest_xray/", "D:\\films\\chest_xray", "D:\\chest_xray\\"])
def test_of_a_path_of_any_system_the_last_name_is_shown(path: str) -> None:
    assert last_part(path) == "chest_xray"


def test_where_the_last_epoch_is_scored_a_patience_chose_when_to_stop(record: RunRecord) -> None:
    callbacks = {**record.config["callbacks"], "checkpoint": {"use": "last", "monitor": "val/auroc"}}
    found = []
    for stopping in ({"patience": None}, {"patience": 3, "monitor": None}, {"patience": 3, "monitor": "val/loss"}):
        config = {**record.config, "callbacks": {**callbacks, "early_stopping": stopping}, "stages": None}
        status = {**record.status, "checkpoint": "last"}
        found.append(dataclasses.replace(record, config=config, status=status).choosing_metric)
    assert found == [None, "val/auroc", "val/loss"]


def test_where_test_was_not_scored_what_chose_the_epoch_is_told_beside_what_chose_the_rules(record: RunRecord) -> None:
    from pneumolit.report.language import translate
    from pneumolit.report.run_page import _sets_words

    checkpoint = {"use": "best", "monitor": "block/auroc"}
    config = {**record.config, "callbacks": {**record.config["callbacks"], "checkpoint": checkpoint}, "stages": None}
    status = {**record.status, "checkpoint": "best"}
    unscored = dataclasses.replace(
        record, config=config, status=status, evaluations={"val": record.evaluations["val"]},
        calibration={"calibration": {"slope": 1.0}},
    )  # fmt: skip
    words = _sets_words(unscored)
    assert words.endswith("so its numbers flatter. block/auroc chose the epoch, so its images flatter as well.")
    assert "block/auroc" in translate(words, "ko") and "flatter" not in translate(words, "ko")


def test_without_calibration_errors_are_judged_by_the_sigmoid_of_the_score(record: RunRecord) -> None:
    table, _ = run_sections.worst_errors(dataclasses.replace(record, calibration={}), "val")
    predictions = record.run.read_predictions("val")
    scores = dict(zip(predictions.paths, predictions.scores, strict=True))
    assert table.rows
    for path, _, called, prob in table.rows:
        assert (called == "pneumonia") == (scores[path] >= 0)
        assert float(prob) == pytest.approx(1 / (1 + np.exp(-scores[path])), abs=6e-4)


def test_no_page_says_where_things_lie_but_for_the_configuration(finished: Path) -> None:
    for name in PAGES:
        # A picture's letters can spell anything.
        page = re.sub(r'<pre>.*?</pre>|"data:[^"]*"', "", (finished / name).read_text(), flags=re.DOTALL)
        assert str(finished.parents[3]) not in page and "/tmp" not in page


def test_errors_are_the_most_certain_wrong_decisions(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_sections, "MOST_ERRORS", 2)
    calibration = Calibration.from_dict(record.calibration["calibration"])
    for name in ("val", "test"):
        predictions = record.run.read_predictions(name)
        called = {False: "normal", True: "pneumonia"}
        probs = calibration.probs(predictions.scores, 0.5)
        wrong = [
            (abs(prob - 0.5), path, label, called[prob >= 0.5], f"{prob:.3f}")
            for path, label, prob in zip(
                predictions.paths, np.array(predictions.labels.classes)[predictions.targets], probs, strict=True
            )
            if (label == "NORMAL") == (prob >= 0.5)
        ]
        table, total = run_sections.worst_errors(record, name)
        (_, flagged), (missed, _) = record.evaluations[name]["rules"]["primary"]["confusion"]
        assert total == len(wrong) == flagged + missed > 2
        assert list(table.rows) == [tuple(row) for _, *row in sorted(wrong, reverse=True)[:2]]
