"""What is said about printed numbers: the answer first, the odd one named, files that other programs can read."""

from __future__ import annotations

import csv
import io
import json

import pytest
from scipy.stats import binomtest

from pneumolit.evaluation.claim_conflicts import CUT_OFF, ROUNDED
from pneumolit.evaluation.claim_text import read_claim, row_as_text
from pneumolit.evaluation.claims import Verdict, check_claim
from pneumolit.report.claim_files import as_plain, claims_csv, claims_markdown, fits_csv
from pneumolit.report.claims import (
    INDEPENDENT,
    OF_A_THRESHOLD,
    ONE_RUN,
    claims_table,
    fits_table,
    interval_table,
    misfits,
    remark,
    sentences,
    sizes_sentence,
    suspect_table,
    tally,
)

KERMANY = "n=234+390 acc=.928 spec=.901 sens=.932"
ROWS = [
    {"source": "A", "model": "good", "n": "234+390", "acc": ".954", "matrix": "216/18/11/379"},
    {"source": "B", "model": "a|b", "n": "234+390", "acc": ".813", "matrix": "144/90/28/363"},
    {"source": "C", "model": "cut", "n": "624", "acc": ".884", "matrix": ""},
    {"source": "D", "model": "open", "n": "", "acc": ".9", "matrix": ""},
]


def verdict_of(text: str) -> Verdict:
    return check_claim(read_claim(text))


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return [verdict_of(row_as_text(row)) for row in ROWS]


def test_a_claim_that_fits_is_answered_in_one_sentence() -> None:
    assert sentences(verdict_of("n=234+390 acc=.954 spec=.923 sens=.972")) == [
        "These numbers can belong together. One confusion matrix of 234 + 390 images gives them all."
    ]


def test_an_auroc_that_cannot_be_checked_is_not_said_to_be_held_against_a_matrix() -> None:
    said = sentences(verdict_of("class=NORMAL:.96/.92/.94/234 class=PNEUMONIA:.95/.97/.96/390 auroc=.98"))
    assert any("Not checked" in sentence and "auroc" in sentence for sentence in said)
    assert OF_A_THRESHOLD not in said
    assert OF_A_THRESHOLD in sentences(verdict_of(f"{KERMANY} auroc=.968"))


def test_the_answer_says_how_far_the_rates_may_lie_apart() -> None:
    (answer,) = sentences(verdict_of("n=234+390 acc=92.8 sens=.93"))
    assert answer == (
        "These numbers can belong together. 4 confusion matrices of 234 + 390 images give them all: "
        "specificity 0.919 to 0.932, sensitivity 0.926 to 0.933."
    )


def test_a_number_that_must_have_been_cut_off_is_named_in_the_answer() -> None:
    said = sentences(verdict_of("matrix=71/163/5/385 precision=.702"))
    assert "can belong together only if ppv=.702 was cut off instead of rounded." in said[0] and said[-1] == ONE_RUN


def test_the_odd_one_out_and_what_it_would_have_to_be_are_said_in_the_digits_of_the_claim() -> None:
    said = sentences(verdict_of(KERMANY))
    assert said[0].startswith("These numbers cannot belong together: no confusion matrix of 234 + 390 images")
    assert (
        "As rates, without asking for whole images: acc=.928, which would have to be .920 (.9199 to .9209);" in said[2]
    )
    assert said[3] == "Or n is the odd one: with 81 + 543 or 91 + 533 images all the numbers fit."
    assert sentences(verdict_of(KERMANY.replace(".928", "92.8%")))[2].count("92.0% (91.99% to 92.09%)") == 1


def test_every_number_of_a_claim_that_does_not_fit_stands_in_the_table() -> None:
    verdict = verdict_of(KERMANY)
    assert verdict.conflict is not None
    table = suspect_table(verdict.conflict, verdict.claim.numbers)
    assert [row[0] for row in table.rows] == ["acc=.928", "spec=.901", "sens=.932"]
    assert table.rows[0][1] == "579 of 624"
    assert table.rows[2][1] == "never possible (363 of 390 gives .931, 364 of 390 gives .933)"


def test_a_single_impossible_number_is_held_against_its_neighbours() -> None:
    assert (
        sentences(verdict_of("n=16 acc=.95"))[1]
        == "acc=.95 is never possible (15 of 16 gives .94, 16 of 16 gives 1.00)."
    )


def test_missing_files_are_said_without_a_word_about_matrices() -> None:
    assert sentences(verdict_of("n=5863 files=5856")) == [
        "These numbers cannot belong together: n is 5863, and there are 5856 files."
    ]


def test_the_table_of_ways_is_short_and_starts_with_the_nearest() -> None:
    verdict = verdict_of("n=100+100 spec=.90 sens=.9")
    table = fits_table(verdict)
    assert len(verdict.fits) > len(table.rows) == 5
    assert table.rows[0] == ("90", "10", "10", "90", "0.9000", "0.9000", "0.9000")


def test_intervals_of_all_ways_hold_those_of_every_single_one() -> None:
    verdict = verdict_of("n=100+100 spec=.90 sens=.9")
    assert interval_table(verdict).header[-1] == "intervals of all"
    lines = list(csv.DictReader(io.StringIO(fits_csv(verdict))))
    assert len(lines) == len(verdict.fits)
    for key, label in (("acc", "accuracy"), ("spec", "specificity"), ("sens", "sensitivity")):
        low, high = verdict.widest[key]
        assert min(float(line[f"{label}_low"]) for line in lines) == pytest.approx(low, abs=1e-6)
        assert max(float(line[f"{label}_high"]) for line in lines) == pytest.approx(high, abs=1e-6)


def test_one_way_alone_has_one_interval() -> None:
    table = interval_table(verdict_of("matrix=216/18/11/379"))
    assert table.header == ("rate", "value [95 % interval]")
    assert table.rows[1] == ("specificity", "0.923 [0.882, 0.951]")


def test_a_row_without_pneumonia_has_no_rate_of_it_in_the_file() -> None:
    (line,) = csv.DictReader(io.StringIO(fits_csv(verdict_of("matrix=5/3/0/0"))))
    assert line["specificity"] == "0.625" and "sensitivity" not in line


def test_a_table_of_claims_says_of_each_row_what_holds(verdicts: list[Verdict]) -> None:
    table = claims_table(ROWS, verdicts, with_claim=True)
    assert table.header == ("source", "model", "claim", "verdict", "accuracy, 95 %", "remark")
    assert [row[3] for row in table.rows] == ["fits", "DOES NOT FIT", "only if cut off", "not checked"]
    assert table.rows[1][2] == "n=234+390 acc=.813 matrix=144/90/28/363"
    of_both = [binomtest(hits, 624).proportion_ci(method="wilson") for hits in (595, 552)]
    expected = [f"{ends.low:.3f} to {ends.high:.3f}" for ends in of_both]
    assert [row[4] for row in table.rows] == [expected[0], "", expected[1], ""]
    assert [row[5] for row in table.rows][::3] == ["TN/FP/FN/TP is 216/18/11/379", "n is not given"]
    assert tally(verdicts) == "4 rows: 1 fit, 1 fit only if cut off, 1 do not fit, 1 cannot be checked."


def test_rows_without_a_name_are_numbered(verdicts: list[Verdict]) -> None:
    table = claims_table([{"n": "5"} for _ in verdicts], verdicts, with_claim=False)
    assert [(table.header[0], row[0]) for row in table.rows][::3] == [("row", "1"), ("row", "4")]


def test_what_does_not_fit_is_said_once_more_below_the_table(verdicts: list[Verdict]) -> None:
    assert misfits(ROWS, verdicts) == [f"DOES NOT FIT, row 2 (B, a|b): {remark(verdicts[1])}."]
    assert "fn=28 would have to be 27" in remark(verdicts[1])


def test_the_csv_keeps_the_columns_and_replaces_those_of_an_earlier_audit(verdicts: list[Verdict]) -> None:
    first = list(csv.DictReader(io.StringIO(claims_csv(ROWS, verdicts))))
    assert [line["verdict"] for line in first] == ["fits", "does not fit", "only if cut off", "not checked"]
    low = binomtest(595, 624).proportion_ci(method="wilson").low
    assert (first[0]["accuracy_low"], first[1]["accuracy_low"]) == (f"{low:.6g}", "")
    assert first[1]["model"] == "a|b"
    again = claims_csv(first, verdicts)
    assert list(csv.DictReader(io.StringIO(again))) == first
    header = again.splitlines()[0].split(",")
    assert len(set(header)) == len(header)


def test_the_markdown_page_is_one_table_whatever_stands_in_the_cells(verdicts: list[Verdict]) -> None:
    lines = claims_markdown("Title", ROWS, verdicts, ["One note."]).splitlines()
    table = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    assert lines[0] == "# Title" and len(table) == 2 + len(ROWS) and "One note." in lines
    assert len({line.count("|") for line in table}) == 1


def test_json_holds_all_that_was_found(verdicts: list[Verdict]) -> None:
    fits, odd = (json.loads(json.dumps(as_plain(verdict), allow_nan=False)) for verdict in verdicts[:2])
    assert fits["columns"] == ["TN", "FP", "FN", "TP"] and fits["fits"] == [[216, 18, 11, 379]]
    assert set(fits["intervals_as_if_independent"]["sens"]) == {"value", "low", "high"}
    assert odd["verdict"] == "does not fit"
    assert {row["number"]: row["would_be"] for row in odd["numbers_at_odds"]}["fn=28"] == "27"
    assert odd["other_divisions"] == [] and odd["fits"] == []


def test_sizes_of_a_set_are_listed_with_how_they_are_possible() -> None:
    single = sizes_sentence("D", 11, [(1172, CUT_OFF)], 2000)
    assert single.startswith("D: n is not given. Its 11 accuracies, if all are of one set of images, are possible on ")
    assert single.endswith(" 1172 (all cut off) images.")
    several = sizes_sentence("B", 3, [(483, ROUNDED), (725, CUT_OFF), (966, ROUNDED), (967, ROUNDED)], 1000)
    assert several.endswith("483 (rounded), 725 (all cut off), 966 (rounded) and 1 larger sets of up to 1000 images.")
    assert sizes_sentence("C", 3, [], 9).endswith("are possible on none of up to 9.")


def test_intervals_are_never_shown_as_if_patients_did_not_matter() -> None:
    assert "as if images were independent" in INDEPENDENT and "wider" in INDEPENDENT
