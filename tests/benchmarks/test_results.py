"""The result table: what a record keeps, what it leaves out, and what the pages say of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from benchmarks._results.page import (
    END,
    START,
    _foretold,
    found_line,
    put_between,
    readme_table,
    results_page,
    with_found,
)
from benchmarks._results.records import (
    LIMIT,
    Record,
    halted_seconds,
    read_record,
    recipe_hash,
    row_of,
    write_record,
)
from benchmarks._results.rows import BETTER, REPRODUCED, WORSE, Row, make_rows, read_published, verdict
from benchmarks._results.tables import split_table
from pneumolit.config import CONFIG_DIR
from pneumolit.labels import LabelSet
from pneumolit.rundir import LEDGER_NAME, RunDir, read_json, record_look, write_json
from tests.comparison import made_runs

ROOT = CONFIG_DIR.parent
Make = Callable[..., RunDir]


@pytest.fixture
def finished(tmp_path: Path) -> Make:
    """`finished(row, seed, noise)`: a finished job of a sweep in whose ledger one look at test stands."""

    def make(row: str, seed: int = 0, noise: float = 1.0, labels: LabelSet = made_runs.BINARY) -> RunDir:
        folder = tmp_path / "out" / "sweeps" / "results" / f"{row.replace('/', '-')}{seed}"
        run = made_runs.write_run(
            folder, noise=noise, draw=seed, labels=labels, sets={"val": 40, "block": 30, "test": 60},
            settings={"seed": seed, "output_dir": str(tmp_path / "out"), "cache_dir": "/somewhere/cache",
                      "optim": {"lr": 1e-4}, "trainer": {"max_epochs": 10}, "logger": {"tensorboard": True}},
            data={"root": "/somewhere/chest_xray", "patient_key": "full"},
        )  # fmt: skip
        overrides = ["sweep=results", f"experiment={row}", f"seed={seed}", "sweep.name=results"]
        write_json(run.job_file, {"overrides": overrides, "choices": {}, "state": "done"})
        status = {**read_json(run.status_file), "configuration": "c" * 12, "code": "d" * 16}
        write_json(run.status_file, status)
        write_json(run.environment_file, {**read_json(run.environment_file), "threads": 1})
        record_look(tmp_path / "out", run=run.path.as_posix(), configuration="c", test_set="t" * 16, purpose="a test")
        return run

    return make


def recorded(run: RunDir, row: str, folder: Path) -> Record:
    return read_record(write_record(row, run, folder))


def test_a_record_says_what_the_run_said_of_every_film_of_block_and_test(finished: Make, tmp_path: Path) -> None:
    run = finished("study_a/two_layer_cnn")
    record = recorded(run, "study_a/two_layer_cnn", tmp_path / "runs")
    own = read_json(run.evaluation_metrics_file("test"))
    scored = record.scored["test"]
    assert len(scored.films) == own["num_images"] and set(record.scored) == {"block", "test"}
    assert len(set(scored.patient_ids)) == own["num_patients"]
    called = scored.calls == scored.positives
    assert called.mean() == pytest.approx(own["rules"]["argmax"]["accuracy"])
    assert called[scored.positives == 0].mean() == pytest.approx(own["rules"]["argmax"]["specificity"])
    assert scored.correct.mean() == pytest.approx(own["class_view"]["accuracy"])
    kept = record.metrics["sets"]["test"]
    assert kept["auroc"] == pytest.approx([own["ranking"]["auroc"], *own["intervals"]["ranking"]["auroc"]], abs=1e-5)
    assert kept["rules"]["primary"]["accuracy"][0] == pytest.approx(own["rules"]["primary"]["accuracy"], abs=1e-5)
    assert record.metrics["looks"] and record.metrics["looks"][0]["purpose"] == "a test"


def test_of_three_classes_a_film_is_right_where_its_cause_is(finished: Make, tmp_path: Path) -> None:
    run = finished("study_d/baseline_128", labels=made_runs.CAUSES)
    record = recorded(run, "study_d/baseline_128", tmp_path / "runs")
    own = read_json(run.evaluation_metrics_file("test"))
    assert record.scored["test"].correct.mean() == pytest.approx(own["class_view"]["accuracy"])
    (row,) = make_rows([record])
    assert row.estimates["accuracy"][0] == pytest.approx(own["class_view"]["accuracy"], abs=1e-5)


def test_a_record_is_small_and_names_no_place_of_the_machine(finished: Make, tmp_path: Path) -> None:
    place = write_record("study_c/mlp", finished("study_c/mlp"), tmp_path / "runs")
    assert place == tmp_path / "runs" / "study_c" / "mlp" / "0"
    texts = {path.name: path.read_text() for path in place.iterdir()}
    assert set(texts) == {"config.yaml", "metrics.json", "environment.json", "predictions.csv"}
    assert sum(map(len, texts.values())) < LIMIT
    for text in texts.values():
        assert "/somewhere" not in text and str(tmp_path) not in text
    assert yaml.safe_load(texts["config.yaml"])["optim"] == {"lr": 1e-4}


def test_a_record_that_grows_too_large_is_refused(finished: Make, tmp_path: Path) -> None:
    run = finished("study_c/mlp")
    write_json(run.environment_file, {**read_json(run.environment_file), "note": "x" * LIMIT})
    with pytest.raises(ValueError, match=r"record of study_c/mlp, seed 0 has \d+ bytes, 60000 are allowed"):
        write_record("study_c/mlp", run, tmp_path / "runs")


def test_epochs_in_which_a_run_stood_still_are_taken_out_of_its_time_and_slower_ones_are_not() -> None:
    assert halted_seconds([100, 102, 98, 700, 101]) == 700 - 101
    assert halted_seconds([100, 150, 100]) == 0 and halted_seconds([]) == 0
    stages = [0.0] * 10 + [1.0] * 5  # a head, then everything
    assert halted_seconds([1.5] * 10 + [68] * 5, stages) == 0
    assert halted_seconds([1.5] * 10 + [68, 68, 300, 68, 68], stages) == 300 - 68


@pytest.mark.parametrize("extra", ["optim.lr=1e-3", "data.patient_key=number", "trainer.max_epochs=2"])
def test_a_run_with_a_setting_of_its_own_is_no_record_of_the_recipe(extra: str) -> None:
    assert row_of(["experiment=study_a/resnet50_head", "seed=3", "test=true", "sweep.rerun=true"])
    with pytest.raises(ValueError, match="a named experiment and nothing else"):
        row_of(["experiment=study_a/resnet50_head", extra])


@pytest.mark.parametrize(
    ("published", "word"),
    [((0.85, 0.85), REPRODUCED), ((0.795, 0.805), REPRODUCED), ((0.78, 0.799), BETTER), ((0.901, 0.91), WORSE),
     ((0.895, 0.905), REPRODUCED)],
)  # fmt: skip
def test_the_verdict_says_on_which_side_of_our_interval_the_published_number_lies(
    published: tuple[float, float], word: str
) -> None:
    assert verdict(published, (0.85, 0.80, 0.90)) == word


def test_a_printed_number_may_have_been_any_that_is_rounded_to_it_and_counted_images_say_which() -> None:
    published = read_published(ROOT / "docs" / "published.csv")
    assert published["study_a/two_layer_cnn"].ranges["accuracy"] == pytest.approx((533 / 624, 533 / 624))
    assert published["study_a/two_layer_cnn"].ranges["specificity"] == pytest.approx((0.615, 0.625))
    assert published["study_c/logistic"].ranges["accuracy"] == pytest.approx((0.7305, 0.7315))
    assert published["study_e/v5"].ranges["accuracy"] == pytest.approx((0.84, 0.85))  # .84+ is not less than .84


def test_the_verdict_of_a_row_that_ran_shorter_than_its_authors_says_so(finished: Make, tmp_path: Path) -> None:
    published = read_published(ROOT / "docs" / "published.csv")
    assert published["study_a/densenet121_full_100"].epochs == 100
    name = "study_a/densenet121_full_100_lite0"
    record = recorded(finished(name), name, tmp_path / "runs")
    for epochs, ending in ((90, ", 90 of 100 epochs"), (100, "")):
        shown = replace(record, config={**record.config, "trainer": {"max_epochs": epochs}})
        (line,) = [one for one in readme_table(make_rows([shown]), published, [name]).splitlines() if name in one]
        assert line.removesuffix(" |").endswith((f"worse{ending}", f"reproduced{ending}", f"better{ending}"))


def test_a_run_that_took_every_film_for_a_patient_of_its_own_is_judged_by_patients(
    finished: Make, tmp_path: Path
) -> None:
    run = finished("study_d/baseline_128", labels=made_runs.CAUSES)
    config = yaml.safe_load(run.config_file.read_text())
    config["data"]["patient_key"] = "image"
    run.config_file.write_text(yaml.safe_dump(config))
    (row,) = make_rows([recorded(run, "study_d/baseline_128", tmp_path / "runs")])
    value, low, high = row.estimates["accuracy"]
    stored = read_json(run.evaluation_metrics_file("test"))
    assert value == pytest.approx(stored["class_view"]["accuracy"], abs=1e-5)
    assert [low, high] != pytest.approx(stored["intervals"]["class_view"]["accuracy"], abs=1e-4)


def test_differences_of_a_pair_are_the_best_recipe_s_less_the_row_s_and_rows_on_other_films_are_named(
    finished: Make, tmp_path: Path
) -> None:
    rows = [("best", 0.3), ("study_a/two_layer_cnn", 3.0), ("study_c/mlp", 1.0)]
    records = [recorded(finished(name, noise=noise), name, tmp_path / "runs") for name, noise in rows]
    elsewhere = {name: scored.of(scored.films[:20]) for name, scored in records[2].scored.items()}
    records[2] = replace(records[2], scored=elsewhere)
    page = results_page(make_rows(records), {}, "", "best")
    pairs = [line for line in page.splitlines() if line.startswith("| `study_a/two_layer_cnn` | +")]
    assert len(pairs) == 2  # block and test, both in favour of the recipe with less noise
    assert page.count("Not compared here, for want of these films: `study_c/mlp`") == 2


def test_several_seeds_make_one_row_whose_interval_holds_both_parts(finished: Make, tmp_path: Path) -> None:
    name = "study_a/two_layer_cnn"
    records = [recorded(finished(name, seed, 1.5), name, tmp_path / "runs") for seed in (2, 0, 1)]
    (row,) = make_rows(records)
    assert [record.seed for record in row.records] == [0, 1, 2] and row.looks == 3
    accuracies = [record.metrics["sets"]["test"]["rules"]["argmax"]["accuracy"][0] for record in records]
    value, low, high = row.estimates["accuracy"]
    assert value == pytest.approx(sum(accuracies) / 3, abs=1e-5)
    assert low is not None and high is not None
    _, low_of_one, high_of_one = records[0].metrics["sets"]["test"]["rules"]["argmax"]["accuracy"]
    assert low < value < high and high - low > 0.5 * (high_of_one - low_of_one)


def test_own_recipes_are_told_by_seed_with_the_largest_logit_beside_the_rule_that_judges(
    finished: Make, tmp_path: Path
) -> None:
    rows = make_rows([recorded(finished("best", seed, 1.5), "best", tmp_path / "runs") for seed in (1, 0)])
    lines = [line for line in results_page(rows, {}, "", "").splitlines() if re.match(r"\| `best` \| [01] \| ", line)]
    assert [line.split(" | ")[1] for line in lines] == ["0", "1"]
    for line, record in zip(lines, rows[0].records, strict=True):
        rules = record.metrics["sets"]["test"]["rules"]
        cells = line.strip("| ").split(" | ")
        assert cells[2].startswith(f"{rules['primary']['accuracy'][0]:.3f}"[1:] + " [")
        assert cells[-3:] == [f"{rules['argmax'][k][0]:.3f}"[1:] for k in ("accuracy", "specificity", "sensitivity")]


def test_runs_that_nobody_has_looked_at_on_test_stand_in_the_pages_without_test_numbers(
    finished: Make, tmp_path: Path
) -> None:
    runs = [(finished(row), row) for row in ("best", "study_d/dropout_2", "study_d/by_patients/dropout_2")]
    for run, _ in runs:
        shutil.rmtree(run.evaluation("test").path)
    rows = make_rows([recorded(run, row, tmp_path / "runs") for run, row in runs])
    page = results_page(rows, {}, "", "")
    assert "Test by seed" not in page and "by whole patients | difference" not in page
    scored = recorded(finished("best", 1), "best", tmp_path / "runs")
    assert "| `best` | 1 | " in results_page(make_rows([*rows[0].records, scored]), {}, "", "")


def test_splitting_by_image_is_set_against_splitting_by_patients_with_an_interval() -> None:
    rows = [
        Row("study_d/dropout_2", (), {"accuracy": (0.8, 0.77, 0.82)}),
        Row("study_d/by_patients/dropout_2", (), {"accuracy": (0.7, 0.66, 0.75)}),
        Row("study_d/dropout_5", (), {"accuracy": (0.9, 0.85, 0.95)}),
    ]
    (line,) = split_table(rows).splitlines()[2:]
    # .1 - sqrt(.03^2 + .05^2) and .1 + sqrt(.02^2 + .04^2)
    assert line == "| `study_d/dropout_2` | .800 [.770, .820] | .700 [.660, .750] | +.100 [+.042, +.145] |"
    assert split_table(rows[2:]) == ""


def test_a_specificity_that_only_the_printed_matrix_tells_is_taken_from_it() -> None:
    logistic = read_published(ROOT / "docs" / "published.csv")["study_c/logistic"]
    assert logistic.texts["specificity"] == ".303"  # 71 of 234
    assert logistic.ranges["specificity"] == pytest.approx((71 / 234, 71 / 234))


def test_every_published_row_names_a_recipe_that_exists_and_every_study_has_rows() -> None:
    published = read_published(ROOT / "docs" / "published.csv")
    for name in published:
        assert (CONFIG_DIR / "experiment" / f"{name}.yaml").is_file(), name
    assert {name.partition("/")[0] for name in published} == {"study_a", "study_c", "study_d", "study_e"}
    assert published["study_a/densenet121_full"].texts == {
        "accuracy": ".91",
        "specificity": ".77",
        "sensitivity": ".99",
        "macro_f1": ".89",
    }
    assert published["study_e/v5"].texts == {"accuracy": ".84+"}


def test_the_page_holds_every_row_with_verdict_and_command_and_says_of_the_others_why_they_did_not_run(
    finished: Make, tmp_path: Path
) -> None:
    names = ("study_a/two_layer_cnn", "study_a/densenet121_head_lite0", "best")
    rows = make_rows([recorded(finished(name), name, tmp_path / "runs") for name in names])
    page = results_page(rows, read_published(ROOT / "docs" / "published.csv"), "What this is.", "best")
    assert (
        "What this is." in page
        and "python -m pneumolit.train experiment=study_a/two_layer_cnn test=true seed=0" in page
    )
    (line,) = [
        line for line in page.splitlines() if line.startswith("| `study_a/densenet121_head_lite0`") and ".84" in line
    ]
    own = next(row for row in rows if row.name.endswith("_lite0")).estimates["accuracy"]
    assert line.rstrip(" |").endswith(verdict((526 / 624, 526 / 624), own))
    assert (
        "`study_a/densenet121_head`: not run, for want of its ImageNet weights; `densenet121_head_lite0` stands in"
        in page
    )
    assert "`study_b/dcnn`: not run: its images cannot be had" in page
    assert "`study_c/mlp`: no record yet" in page
    assert "## `best` against every row" in page and "Holm" in page
    assert "3 sets of predictions of test splits" in page


def test_rows_are_set_against_best_by_the_rule_of_each_and_by_one_rule(finished: Make, tmp_path: Path) -> None:
    names = ("study_a/two_layer_cnn", "best")
    rows = make_rows([recorded(finished(name), name, tmp_path / "runs") for name in names])
    page = results_page(rows, read_published(ROOT / "docs" / "published.csv"), "What this is.", "best")
    lines = [line for line in page.splitlines() if line.startswith("| `study_a/two_layer_cnn` | ")]
    cells = lines[-1].strip("| ").split(" | ")  # block stands before test
    cnn, best = (next(row for row in rows if row.name == name).records[0].scored["test"] for name in names)
    right = [(scored.decided(rule) == scored.positives).mean() for scored, rule in (
        (best, "primary"), (cnn, "argmax"), (cnn, "primary"),
    )]  # fmt: skip
    assert [cells[1], cells[4]] == [f"{right[0] - right[1]:+.3f}", f"{right[0] - right[2]:+.3f}"]


def test_what_validation_foretells_is_counted_over_runs_and_ranked_over_rows_of_studies() -> None:
    def row(name: str, *runs: tuple[float, float, float]) -> Row:
        sets = [dict(zip(("val", "block", "test"), ({"auroc": [v, 0, 1]} for v in run), strict=True)) for run in runs]
        return Row(name, tuple(SimpleNamespace(metrics={"sets": one}) for one in sets), {})  # type: ignore[misc]

    rows = [row(f"study_a/{k}", (0.9, 0.91 + k / 100, 0.8 - k / 100)) for k in range(5)]
    rows += [row("study_a/5", (0.99, 0.80, 0.95), (0.99, 0.80, 0.70)), row("best", (0.9, 0.99, 0.95))]
    text = _foretold(rows)
    assert "Of 8 runs" in text and "validation's in 6, and test lies below both in 6" in " ".join(text.split())
    assert "Over the 6 rows of studies" in text and "of -1.00 [-1.00, -1.00], with 1 of our own,\nchosen" in text
    assert "chosen on the block, of -0.25 [" in text  # the own one has most on both
    assert _foretold(rows[:4]) == ""


def test_a_row_whose_authors_gave_words_alone_shows_them_and_rows_without_a_number_are_counted(
    finished: Make, tmp_path: Path
) -> None:
    name = "study_e/v3_lite2"
    rows = make_rows([recorded(finished(name), name, tmp_path / "runs")])
    published = read_published(ROOT / "docs" / "published.csv")
    (line,) = [one for one in results_page(rows, published, "", "").splitlines() if one.startswith(f"| `{name}`")]
    assert line.rstrip(" |").endswith("no number published: no gain")
    counts = [
        re.search(
            r"Of the (\d+) rows of the studies that can run here, (\d+) have no number", readme_table(made, {}, [])
        )
        for made in ([], rows)
    ]
    (able, none), (_, fewer) = (map(int, found.groups()) for found in counts if found)
    assert able == none == fewer + 1 > 30


def test_the_intro_s_links_lead_somewhere_from_its_own_folder_and_from_the_page() -> None:
    intro = ROOT / "docs" / "results" / "intro.md"
    page = results_page([], {}, intro.read_text(encoding="utf-8"), "")
    for folder, text in ((intro.parent, intro.read_text(encoding="utf-8")), (ROOT / "docs", page)):
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
        assert len(links) >= 4 and all((folder / link).is_file() for link in links), links


def test_numbers_of_a_row_calibrated_on_a_few_films_are_said_to_be_so(finished: Make, tmp_path: Path) -> None:
    names = ("study_a/two_layer_cnn", "study_c/mlp", "best")
    records = [recorded(finished(name), name, tmp_path / "runs") for name in names]
    for record, images in zip(records, (400, 16, 400), strict=True):
        record.metrics["sets"]["val"]["images"] = images
    page = results_page(make_rows(records), {}, "", "best")
    assert page.count("of fewer than 50 films in `study_c/mlp`.") == 2  # block and test


def test_a_recipe_s_header_says_what_was_found_once_and_keeps_the_rest(finished: Make, tmp_path: Path) -> None:
    (row,) = make_rows([recorded(finished("study_c/mlp"), "study_c/mlp", tmp_path / "runs")])
    recipe = (CONFIG_DIR / "experiment" / "study_c" / "mlp.yaml").read_text()
    bare = "\n".join(line for line in recipe.splitlines() if not line.startswith("# Here: ")) + "\n"
    once = with_found(bare, found_line(row))
    assert with_found(once, found_line(row)) == once and len(once.splitlines()) == len(bare.splitlines()) + 1
    (line,) = set(once.splitlines()) - set(bare.splitlines())
    assert line.startswith("# Here: accuracy .") and "seed 0" in line and len(line) <= 120
    before = once.splitlines()[once.splitlines().index(line) - 1]
    assert before.startswith("# Published")
    assert yaml.safe_load(once) == yaml.safe_load(bare)


def test_the_short_table_sets_no_number_of_two_classes_beside_an_accuracy_of_three(
    finished: Make, tmp_path: Path
) -> None:
    name = "study_d/baseline_128"
    rows = make_rows([recorded(finished(name, labels=made_runs.CAUSES), name, tmp_path / "runs")])
    cells = readme_table(rows, {}, [name]).splitlines()[2].split("|")
    assert cells[3].strip().startswith((".", "1")) and [cell.strip() for cell in cells[4:7]] == [""] * 3


def test_the_readme_keeps_all_but_what_stands_between_the_marks(finished: Make, tmp_path: Path) -> None:
    rows = make_rows([recorded(finished("study_c/mlp"), "study_c/mlp", tmp_path / "runs")])
    table = readme_table(rows, read_published(ROOT / "docs" / "published.csv"), ["study_c/mlp"])
    text = put_between(f"before\n{START}\nold\n{END}\nafter\n", table)
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "`study_c/mlp`" in text
    with pytest.raises(ValueError, match="has no place for the table"):
        put_between("nothing", table)


def test_the_command_collects_a_sweep_but_for_runs_of_an_earlier_recipe_and_writes_the_pages(
    finished: Make, tmp_path: Path, compose_config: Callable[..., dict[str, Any]]
) -> None:
    run, changed = finished("study_c/mlp"), finished("study_c/logistic")
    run.config_file.write_text(yaml.safe_dump(compose_config("experiment=study_c/mlp", "data.root=/somewhere")))
    grid = finished("grid")
    write_json(grid.job_file, {"overrides": ["optim.lr=1e-3", "seed=0"], "choices": {}, "state": "done"})
    changed.config_file.write_text(yaml.safe_dump(compose_config("experiment=study_c/logistic", "optim.lr=1e-3")))
    gone = finished("gone")
    write_json(gone.job_file, {"overrides": ["experiment=study_d/no_such_row", "data.patient_key=full"], "choices": {}})
    unscored = Path(shutil.copytree(run.path, run.path.with_name("zz_without_test")))
    shutil.rmtree(unscored / "evaluation" / "test")
    docs = tmp_path / "docs"
    (docs / "results").mkdir(parents=True)
    (docs / "results" / "intro.md").write_text("Intro.")
    (docs / "published.csv").write_text((ROOT / "docs" / "published.csv").read_text())
    readme = tmp_path / "README.md"
    readme.write_text(f"{START}\n{END}\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results", f"collect={run.path.parent}", f"docs={docs}", f"readme={readme}",
         f"conf={tmp_path / 'conf'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "results/runs/study_c/mlp/0" in done.stdout
    assert "not taken: experiment=study_c/logistic is another recipe by now; run it again" in done.stdout
    assert "grid0: not taken: a record belongs to a named experiment and nothing else" in done.stdout
    assert "gone0: not taken: In 'train': Could not find 'experiment/study_d/by_patients/no_such_row'" in done.stdout
    assert f"zz_without_test: not taken: {run.path} is a run of the same row and seed" in done.stdout
    assert "test" in read_json(docs / "results" / "runs" / "study_c" / "mlp" / "0" / "metrics.json")["sets"]
    assert not (docs / "results" / "runs" / "study_c" / "logistic").exists()
    assert "`study_c/mlp`" in (docs / "results.md").read_text() and "`study_c/mlp`" in readme.read_text()
    assert (tmp_path / "out" / LEDGER_NAME).is_file()
    shutil.copytree(run.evaluation("test").path, unscored / "evaluation" / "test")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results", f"collect={run.path.parent}", f"docs={docs}", f"readme={readme}",
         f"conf={tmp_path / 'conf'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "study_c/mlp, seed 0, was scored twice" in done.stderr, done.stderr


@pytest.mark.parametrize("row", ["two_stages", "growing_size"])
def test_a_recipe_of_stages_that_name_options_is_known_again(row: str) -> None:
    assert recipe_hash(f"experiment={row}") != recipe_hash(f"experiment={row}", "optim.lr=0.0123")


def test_the_committed_pages_are_what_the_command_makes_of_the_committed_records(tmp_path: Path) -> None:
    from benchmarks.results import write_pages

    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "results").symlink_to(ROOT / "docs" / "results")
    (docs / "published.csv").symlink_to(ROOT / "docs" / "published.csv")
    readme = tmp_path / "README.md"
    readme.write_text((ROOT / "README.md").read_text())
    conf = tmp_path / "conf"
    shutil.copytree(CONFIG_DIR, conf)
    write_pages(docs, readme, conf)
    for recipe in (conf / "experiment").rglob("*.yaml"):
        assert recipe.read_text() == (CONFIG_DIR / recipe.relative_to(conf)).read_text(), recipe.name
    assert (docs / "results.md").read_text() == (ROOT / "docs" / "results.md").read_text()
    assert readme.read_text() == (ROOT / "README.md").read_text()
