"""The command that audits printed numbers: exit codes, one message per mistake, the published results."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pneumolit.audit import PUBLISHED_FILE, loose_claim, read_claims_file


class Outcome(NamedTuple):
    """Exit code, standard output and error."""

    code: int
    out: str
    err: str


@pytest.fixture
def audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """`audited("claim=n=5 acc=.8")`: run the command in this process, in an empty folder."""
    from pneumolit.audit import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["audit", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and not list(tmp_path.glob("outputs"))
        return Outcome(code, captured.out, captured.err)

    return run


def test_a_claim_that_can_be_right_is_answered_with_its_matrix_and_intervals(audited: Callable[..., Outcome]) -> None:
    result = audited("claim=n=234+390 acc=.954 spec=.923 sens=.972")
    assert (result.code, result.err) == (0, "")
    words = result.out.split()
    assert "216 18 11 379 0.9535 0.9231 0.9718" in " ".join(words)
    assert "sensitivity 0.972 [0.950, 0.984]" in " ".join(words)
    assert "as if images were independent" in result.out


def test_a_class_may_have_a_name_in_brackets(audited: Callable[..., Outcome]) -> None:
    assert "[red] right" in audited("claim=class=[red]:.9/.9/.9/10 class=B:.9/.9/.9/10").out


def test_a_claim_that_cannot_be_right_leaves_with_1_and_names_the_odd_number(audited: Callable[..., Outcome]) -> None:
    result = audited("claim=n=234+390 acc=.928 spec=.901 sens=.932")
    assert (result.code, result.err) == (1, "")
    assert "cannot belong together" in result.out and "acc=.928, which would have to be .920" in result.out


def test_all_ways_are_written_where_output_says(audited: Callable[..., Outcome], tmp_path: Path) -> None:
    assert audited("claim=n=234+390 acc=92.8 sens=.93", "output=new/fits.csv").code == 0
    with (tmp_path / "new/fits.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 4
    assert audited("claim=n=16 acc=.95", "output=odd.json").code == 1
    assert json.loads((tmp_path / "odd.json").read_text())["verdict"] == "does not fit"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one thing can be audited at a time, and nothing is given"),
        (["claim=n=5 acc=.8", "published=true"], "claim and published are given"),
        (["claim=acc=.9"], "claim='acc=.9' cannot be checked: n is not given"),
        (["claim=n=5 speficity=.8"], "did you mean specificity?"),
        (["claim=n=5", "acc=.8"], 'all numbers of a claim are one text in quotes: claim="n=5 acc=.8"'),
        (["n=5 acc=.8"], 'claim="n=5 acc=.8"'),
        (["claim=n=5 acc=.8", "output=x.md"], "output must be a file that ends in .json or .csv, got x.md"),
        (["published=true", "output=x.html"], "output must be a file that ends in .json or .csv or .md, got x.html"),
        (["published=1"], "published must be true or false, got 1"),
        (["claims_file=absent.csv"], "absent.csv is not a file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    audited: Callable[..., Outcome], arguments: list[str], message: str
) -> None:
    result = audited(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err and result.err.startswith("pneumolit: ") and result.err.count("\n") == 1


def test_numbers_outside_the_quotes_are_put_back_into_the_claim() -> None:
    assert loose_claim(["claim=n=234+390", "acc=.928", "output=fits.csv"]) == "n=234+390 acc=.928"
    assert loose_claim(["claim=acc=.9", "class=A:///5", "class=B:///6"]) == "acc=.9 class=A:///5 class=B:///6"
    assert loose_claim(["claim=n=234+390 acc=.928", "output=fits.csv", "--help"]) == ""


def test_a_file_of_claims_is_audited_row_by_row(audited: Callable[..., Outcome], tmp_path: Path) -> None:
    # A spreadsheet's file: byte order mark, columns in capitals, an empty line, a column of one's own.
    (tmp_path / "mine.csv").write_text(
        '\ufeffModel,N,Accuracy,notes\none,10,.9,\n\ntwo,10,.95,"a, b"\n', encoding="utf-8"
    )
    result = audited("claims_file=mine.csv", "output=out.md")
    assert result.code == 1
    assert "2 rows: 1 fit, 0 fit only if cut off, 1 do not fit, 0 cannot be checked." in result.out
    assert (
        "DOES NOT FIT, row 2 (two): acc=.95 is never possible (9 of 10 gives .90, 10 of 10 gives 1.00)." in result.out
    )
    assert "left aside: notes." in result.out
    assert "| two | n=10 accuracy=.95 | DOES NOT FIT |" in (tmp_path / "out.md").read_text()


def test_a_file_of_which_nothing_can_be_checked_is_wrong_input(audited: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("model,accuracy\none,.9\n")
    result = audited("claims_file=mine.csv")
    assert result.code == 2 and "no row can be checked, n is not given" in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no row, and columns \(none\)"),
        ("n,accuracy\n", r"has no row, and columns n, accuracy"),
        ("n;accuracy\n5;.8\n", r"has columns n;accuracy; .* with commas between columns"),
        ("n,accuracy,Accuracy\n5,.8,.8\n", r"has more than one column 'accuracy'"),
        ("n,accuracy\n5,.8,1\n", r"row 1 has 3 cells for 2 columns; a cell that has a comma"),
        ("n,accuracy\n5,.8\n5\n", r"row 2 has 1 cells for 2 columns"),
    ],
)
def test_a_file_that_is_no_table_of_claims_is_refused_and_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_claims_file(tmp_path / "mine.csv")


def test_a_cell_that_is_no_number_is_named_with_its_row(audited: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("n,accuracy\n5,.8\n5,good\n")
    result = audited("claims_file=mine.csv")
    assert result.code == 2 and "mine.csv, row 2: accuracy=good is no rate" in result.err


# The published results.


def test_the_published_results_that_do_not_add_up_are_found_and_no_others(
    audited: Callable[..., Outcome], tmp_path: Path
) -> None:
    result = audited("published=true", "output=out.csv")
    assert result.code == 1
    with (tmp_path / "out.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    by_verdict: dict[str, list[str]] = {}
    for row in rows:
        by_verdict.setdefault(row["verdict"], []).append(f"{row['source']}, {row['model']}, {row['split']}")
    assert by_verdict["does not fit"] == [
        "study C, mlp, test",
        "study D, none, the images as counted, all images",
        "Kermany 2018 (Cell), InceptionV3, test",
    ]
    assert by_verdict["only if cut off"] == [
        "study C, logistic, test",
        "MedMNIST v2, ResNet-50 at 224, test",
        "MedMNIST v2, auto-sklearn, test",
        "MedMNIST+ benchmark, ResNet-18 at 224, test",
        "MedMNIST+ benchmark, DINO ViT-B/16 at 224, test",
    ]
    assert all(row["remark"] in ("n is not given",) for row in rows if row["verdict"] == "not checked")
    # 20 % of 5,856 images, rounded up; of the 5,863 that are stated it would be 1,173.
    assert "study D, own test, 20 %: n is not given. Its 12 accuracies" in result.out
    assert "are possible on 1172 (all cut off), 2344 (all cut off) images." in result.out


def test_published_rows_name_their_source_and_recipes_that_there_are() -> None:
    from pneumolit.config import CONFIG_DIR

    rows = read_claims_file(PUBLISHED_FILE)
    columns = ["source", "model", "n", "accuracy", "specificity", "sensitivity", "auroc", "split", "protocol"]
    assert list(rows[0])[: len(columns)] == columns
    assert all(row["source"] and row["model"] and row["split"] for row in rows)
    recipes = {row["recipe"] for row in rows if row["recipe"]}
    assert recipes and all((CONFIG_DIR / "experiment" / f"{recipe}.yaml").is_file() for recipe in recipes)


def test_an_installation_without_the_published_file_says_where_to_find_it(
    audited: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pneumolit.audit.PUBLISHED_FILE", tmp_path / "absent.csv")
    result = audited("published=true")
    assert result.code == 2 and "absent.csv is not part of this installation" in result.err


def test_the_command_starts_without_torch_or_figures(tmp_path: Path) -> None:
    asked = (
        "import sys; sys.argv = ['audit', 'claim=n=234+390 acc=.954']\n"
        "from pneumolit.audit import main\n"
        "code = 0\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "print('left with', code)\n"
        "print([name for name in ('torch', 'matplotlib', 'sklearn', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "can belong together" in result.stdout
    assert result.stdout.splitlines()[-2:] == ["left with 0", "[]"]
