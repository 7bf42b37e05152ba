from __future__ import annotations

import csv
import io
import itertools
import random
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from pneumolit.report import sweep_figures, sweep_parallel
from pneumolit.report.sweep import SweepRow, group_rows, rank_rows, sweep_csv, value_text, varied_keys
from pneumolit.report.sweep_page import write_sweep_page
from pneumolit.report.sweep_scale import CATEGORY, LINEAR, LOG, NO_SCORE, WORSE, scale_of, score_scale
from pneumolit.report.sweep_tables import MOST_ROWS, duration, sentence, sweep_markdown

EVIL = "<script>alert('x')</script> & \"quoted\""


def done(name: str, score: float | None, seconds: float = 60.0, **choices: Any) -> SweepRow:
    keys = {key.replace("__", "."): value for key, value in choices.items()}
    metrics = {"stress/auroc": 0.5} if score is not None else {}
    return SweepRow(name, keys, "done", score=score, metrics=metrics, seconds=seconds, epochs=3)


def failed(name: str, reason: str = "out of memory", **choices: Any) -> SweepRow:
    keys = {key.replace("__", "."): value for key, value in choices.items()}
    return SweepRow(name, keys, "failed", reason, seconds=5.0)


GRID = [
    done(f"{i:02}", 0.9 + 0.003 * i, optim__lr=lr, optim=optim, data__batch_size=size)
    for i, (lr, optim, size) in enumerate(itertools.product((1e-4, 1e-3, 1e-2), ("sgd", "adamw"), (16, 64)))
]
SEEDS = [
    done(f"{backbone[:3]}{seed}", mean + 0.001 * seed, backbone=backbone, seed=seed)
    for backbone, mean in (("convnext_tiny.fb_in22k_ft_in1k", 0.98), ("densenet201.tv_in1k", 0.97))
    for seed in range(5)
]
KINDS: dict[str, list[SweepRow]] = {
    "grid": GRID,
    "seeds of nets with long names": SEEDS,
    "seeds alone": [row for row in SEEDS if row.name.startswith("con")],
    "one run": GRID[:1],
    "some failed": [*GRID[:8], *(failed(f"x{i}", optim__lr=1e-2, data__batch_size=512) for i in range(4))],
    "all failed": [failed("a", optim__lr=0.1), failed("b", optim__lr=1.0)],
    "equal scores": [done(row.name, 1.0, **{"optim.lr": row.choices["optim.lr"]}) for row in GRID],
    "values of all kinds": [
        done(f"{i}", 0.9 + i / 100, a__flag=flag, b__patience=patience, c__scale=scale)
        for i, (flag, patience, scale) in enumerate(
            itertools.product((True, False), (None, 3, 50), ([0.5, 1.0], [0.8, 1.0]))
        )
    ],
    "keys that some jobs lack": [done("a", 0.9, optim__lr=0.1), done("b", 0.8, optim__lr=0.1, model__hidden=64)],
    "seventy nets": [done(f"{i}", 0.9 + i % 7 / 100, backbone=f"a_rather_long_name_{i}.tag_in22k") for i in range(70)],
    "long values side by side": [
        SweepRow(f"{i}", dict.fromkeys("abcd", f"a_rather_long_name_{i}.tag_in22k"), "done", score=0.9 + i, seconds=9.0)
        for i in range(3)
    ],
    "many draws": [
        done(
            f"{i:03}",
            0.99 - random.Random(i).expovariate(100),
            optim__lr=10 ** random.Random(i + 500).uniform(-5, -1),
            model__drop_rate=random.Random(i + 900).random(),
            **{f"key_{k}.{'$' * k}value": i * k % 5 for k in range(1, 10)},
        )
        for i in range(60)
    ],
    "no score": [done("a", None, optim__lr=0.1), done("b", None, optim__lr=0.2)],
    "none": [],
}


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# Ranks


@pytest.mark.parametrize(("monitor", "order"), [("val/auroc", ["b", "c", "a"]), ("val/loss", ["a", "c", "b"])])
def test_the_best_score_comes_first_and_that_of_a_loss_is_the_smallest(monitor: str, order: list[str]) -> None:
    rows = [done("a", 0.1, optim__lr=1), done("b", 0.9, optim__lr=2), done("c", 0.5, optim__lr=3)]
    assert [(rank, row.name) for rank, row in rank_rows(rows, monitor)] == list(enumerate(order, start=1))
    assert [group.rows[0].name for group in group_rows(rows, monitor)] == order
    assert [row["folder"] for row in read(sweep_csv(rows, monitor))] == order
    best = next(row for row in rows if row.name == order[0])
    assert f"with optim.lr={best.choices['optim.lr']}" in sentence(rows, monitor)


@pytest.mark.parametrize("score", [None, float("nan"), 2.0])
def test_what_is_not_done_or_has_no_number_never_ranks(score: float | None) -> None:
    state = "failed" if score == 2.0 else "done"
    rows = [SweepRow("bad", {"seed": 0}, state, score=score), done("good", 0.1, seed=1)]
    assert [(rank, row.name) for rank, row in rank_rows(rows, "val/auroc")] == [(1, "good"), (None, "bad")]
    (group,) = group_rows(rows, "val/auroc")
    assert (group.mean, group.sd, group.n, group.planned) == (0.1, None, 1, 2)
    assert "1 of 2 runs" in sentence(rows, "val/auroc")


def test_equal_scores_share_a_rank() -> None:
    rows = [done("a", 0.5, optim__lr=10), done("b", 0.9, optim__lr=9), done("c", 0.9, optim__lr=2)]
    assert [(rank, row.name) for rank, row in rank_rows(rows, "val/auroc")] == [(1, "c"), (1, "b"), (3, "a")]
    assert "1 other is as good" in sentence(rows, "val/auroc")


@pytest.mark.parametrize("kind", KINDS)
def test_tables_do_not_depend_on_the_order_of_the_jobs(kind: str) -> None:
    rows = [*KINDS[kind]]
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        texts.add(sweep_csv(rows, "val/auroc") + sweep_markdown(rows, title="t", monitor="val/auroc"))
    assert len(texts) == 1


# Repeats


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.lists(st.floats(0, 1), min_size=2, max_size=6))
@settings(max_examples=30, deadline=None)
def test_mean_and_spread_over_seeds_are_those_of_numpy(first: list[float], second: list[float]) -> None:
    scores = {"sgd": first, "adamw": second}
    rows = [done(f"{o}{i}", s, optim=o, seed=i) for o, own in scores.items() for i, s in enumerate(own)]
    groups = {group.choices["optim"]: group for group in group_rows(rows, "val/auroc")}
    for optim, own in scores.items():
        assert groups[optim].mean == pytest.approx(np.mean(own))
        assert groups[optim].sd == pytest.approx(np.std(own, ddof=1))
        assert [row.score for row in groups[optim].rows] == own  # by seed
    means = [group.mean for group in group_rows(rows, "val/auroc") if group.mean is not None]
    assert means == sorted(means, reverse=True)


def test_choices_whose_repeats_are_not_all_there_stand_behind_those_that_are_whole() -> None:
    # The one fold of sgd is the easiest, on which it lost.
    rows = [done(f"a{i}", score, optim="adamw", data__fold=i) for i, score in enumerate((0.999, 0.990, 0.988))]
    rows += [
        done("s0", 0.997, optim="sgd", data__fold=0),
        *(failed(f"s{i}", optim="sgd", data__fold=i) for i in (1, 2)),
    ]
    assert [group.choices["optim"] for group in group_rows(rows, "val/auroc")] == ["adamw", "sgd"]
    assert "with optim=adamw" in sentence(rows, "val/auroc")
    assert "their mean is over other images" in sweep_markdown(rows, title="t", monitor="val/auroc")
    assert "over other images" not in sweep_markdown(rows[:3], title="t", monitor="val/auroc")


def test_folds_and_data_seeds_are_repeats_and_all_else_is_a_choice() -> None:
    axes = {"seed": (0, 1), "data.seed": (5, 6), "data.fold": (0, 1), "optim.lr": (0.1, 0.2), "model.seed": (0, 1)}
    rows = [
        SweepRow(str(i), dict(zip(axes, values, strict=True)), "done", score=0.5)
        for i, values in enumerate(itertools.product(*axes.values()))
    ]
    groups = group_rows(rows, "val/auroc")
    assert [group.n for group in groups] == [8] * 4
    assert all(set(group.choices) == {"optim.lr", "model.seed"} for group in groups)


def test_without_a_varying_seed_every_run_stands_for_itself() -> None:
    rows = [done("a", 0.5, optim__lr=1, seed=0), done("b", 0.6, optim__lr=2, seed=0)]
    assert [(group.n, group.sd, dict(group.choices)) for group in group_rows(rows, "val/auroc")] == [
        (1, None, {"optim.lr": 2, "seed": 0}),
        (1, None, {"optim.lr": 1, "seed": 0}),
    ]
    text = sweep_markdown(rows, title="t", monitor="val/auroc")
    assert "mean val/auroc" not in text and "## All runs" not in text


def test_the_leaderboard_over_seeds_shows_mean_spread_and_count() -> None:
    rows = [*SEEDS, failed("x", backbone="densenet201.tv_in1k", seed=9)]
    text = sweep_markdown(rows, title="t", monitor="val/auroc")
    assert "| 1 | convnext_tiny.fb_in22k_ft_in1k | 0.9820 | 0.0016 | 5 | 0.5000 |" in text
    assert "| 2 | densenet201.tv_in1k | 0.9720 | 0.0016 | 5 of 6 | 0.5000 |" in text
    assert text.index("## Leaderboard") < text.index("## All runs")


# sweep.csv


@given(st.text(st.characters(codec="utf-8"), max_size=20))
@settings(max_examples=30, deadline=None)
def test_any_reason_and_any_choice_stay_one_cell_of_the_csv(text: str) -> None:
    rows = [SweepRow("a", {"k": text, "n": 1}, "failed", text), done("b", 0.1 + 0.2, n=[1, "x,y"], k=None)]
    good, bad = read(sweep_csv(rows, "val/auroc"))
    assert bad["reason"] == bad["k"] == "\n".join(text.splitlines())
    assert (good["n"], good["k"], good["reason"]) == ("[1, x,y]", "null", "")


def test_numbers_of_the_csv_come_back_with_every_digit_and_unknown_ones_are_empty() -> None:
    low, score = 0.1 + 0.2, 1 / 3
    row = SweepRow(
        "a", {"optim.lr": 1e-5}, "done", "", score, {"val/loss": 1e-9, "x": float("inf")}, (low, 0.4), 1.5, 7
    )
    first, second = read(sweep_csv([row, SweepRow("b", {}, "waiting")], "val/auroc"))
    assert float(first["optim.lr"]) == 1e-5 and float(first["val/auroc"]) == score
    assert (float(first["interval_low"]), float(first["interval_high"])) == (low, 0.4)
    assert (float(first["val/loss"]), first["x"], first["epochs"], float(first["seconds"])) == (1e-9, "", "7", 1.5)
    assert {key for key, value in second.items() if value} == {"state", "folder"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "0.001"), (1.0, "1"), (1, "1"), (1e-05, "1e-5"), (2.5e22, "2.5e22"), (True, "true"), (None, "null"),
     ([0.8, 1.0], "[0.8, 1]"), ({"a": False}, "{a: false}"), ("sgd", "sgd"), (np.float64(0.5), "0.5")],
)  # fmt: skip
def test_a_value_is_printed_as_one_types_it(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_one_and_one_point_zero_are_the_same_choice() -> None:
    assert varied_keys([done("a", 0.1, k=1), done("b", 0.1, k=1.0)]) == []
    assert varied_keys([done("a", 0.1, k=1), done("b", 0.1)]) == ["k"]


# sweep.md and sweep.html


def test_the_first_line_says_how_many_ended_how_and_what_is_best() -> None:
    text = sweep_markdown(KINDS["some failed"], title="T", monitor="val/auroc", commands=[("score", "python -m x")])
    best = "optim.lr=0.001, optim=adamw, data.batch_size=64"
    assert text.startswith(f"# T\n\n12 runs: 8 done, 4 failed. Best val/auroc 0.9210 with {best}.\n")
    assert text.count("out of memory") == 4 and "```\npython -m x\n```" in text
    assert text.endswith("Research software, not a medical device.\n")
    widths = {block.split("\n")[0]: {line.count("|") for line in block.split("\n")} for block in text.split("\n\n")}
    assert all(len(counts) == 1 for head, counts in widths.items() if head.startswith("|"))
    assert sweep_markdown(KINDS["all failed"], title="t", monitor="val/auroc").split("\n")[2] == (
        "2 runs: 2 failed. No run has a val/auroc."
    )


def test_a_class_name_in_a_reason_is_seen_in_markdown() -> None:
    assert r"\<class 'int'>" in sweep_markdown([failed("a", "<class 'int'>")], title="t", monitor="val/auroc")


def test_runs_that_validation_cannot_tell_from_the_best_are_counted() -> None:
    rows = [
        SweepRow(str(i), {"optim.lr": i}, "done", score=score, interval=(score - 0.02, score + 0.01))
        for i, score in enumerate((0.98, 0.97, 0.955, 0.95))
    ]
    words = "2 of 4 runs lie within the 95 % interval of the best one."
    assert words in sweep_markdown(rows, title="t", monitor="val/auroc")
    assert "interval of the best" not in sweep_markdown(rows, title="t", monitor="val/loss")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]
        self.alts += [value or "" for key, value in attrs if key == "alt"]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(path: Path, rows: Sequence[SweepRow], **more: Any) -> _Page:
    page = _Page()
    page.feed(write_sweep_page(path, rows, title=EVIL, monitor="val/auroc", **more).read_text(encoding="utf-8"))
    return page


def test_the_page_needs_nothing_else_and_shows_every_text_as_it_is(tmp_path: Path) -> None:
    rows = [*GRID[:4], failed("f1", EVIL, optim__lr=EVIL), failed("f2", "line 1\nline 2")]
    page = page_of(tmp_path / "x" / "sweep.html", rows, commands=[("how", EVIL)], notes=[EVIL])
    assert len(page.alts) == 3 and all(page.alts)
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    # Title twice, note, command, reason and choice of the failed job.
    assert page.text.count(EVIL) == 6
    assert "line 1\nline 2" in page.text
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["sweep.html"]


@pytest.mark.parametrize(
    ("kind", "pictures"),
    [("one run", 0), ("all failed", 1), ("no score", 1), ("none", 0), ("seeds alone", 2), ("values of all kinds", 3),
     ("keys that some jobs lack", 3)],
)  # fmt: skip
def test_a_page_has_the_pictures_that_its_runs_can_fill(kind: str, pictures: int, tmp_path: Path) -> None:
    assert len(page_of(tmp_path / "sweep.html", KINDS[kind]).alts) == pictures


def test_a_long_leaderboard_is_cut_and_says_so() -> None:
    rows = [done(f"{i:03}", i / 100, optim__lr=i) for i in range(MOST_ROWS + 10)]
    text = sweep_markdown(rows, title="t", monitor="val/auroc")
    assert f"The best {MOST_ROWS} of {MOST_ROWS + 10}; sweep.csv has all." in text
    assert text.count("min |") == MOST_ROWS
    assert len(read(sweep_csv(rows, "val/auroc"))) == MOST_ROWS + 10


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "n/a"), (0, "0.0 s"), (38, "38 s"), (250, "4.2 min"), (4680, "1.3 h")]
)
def test_a_time_is_said_in_its_own_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


# Axes


def scale(*values: Any) -> Any:
    return scale_of([done(str(i), 0.5, k=value) for i, value in enumerate(values)], "k")


@pytest.mark.parametrize(
    ("values", "kind"),
    [((1e-4, 1e-3, 1e-2), LOG), ((1e-4, 1e-2), LOG), ((16, 32, 64), LOG), ((0, 1e-4, 1e-2), LOG),
     ((0, 0.2, 0.4), LINEAR), ((1, 2, 3, 4), LINEAR), ((-1, 50, 100), LINEAR), ((-1, 0, 100), CATEGORY),
     ((16, 64), LINEAR),
     ((0.99, 0.998, 0.9995), CATEGORY), ((True, False), CATEGORY), ((None, 3, 5), CATEGORY), (("a", "b"), CATEGORY),
     ((7,), CATEGORY), (tuple(i / 200 for i in range(1, 201)), LINEAR), (tuple(1.5**i for i in range(30)), LOG)],
)  # fmt: skip
def test_an_axis_is_logarithmic_for_numbers_in_ratios_and_in_order_for_all_else(
    values: tuple[Any, ...], kind: str
) -> None:
    found = scale(*values)
    assert found.kind == kind
    places = [found.places[value_text(value)] for value in values]
    assert min(places) >= 0 and max(places) <= 1 and len(set(places)) == len(values)
    if kind != CATEGORY:
        assert places == sorted(places) and (places[0], places[-1]) == (0, 1)
    assert all(0 <= place <= 1 for place, _ in found.ticks)


def test_values_in_even_ratios_stand_at_even_distances() -> None:
    assert list(scale(1e-4, 1e-3, 1e-2).places.values()) == pytest.approx([0, 0.5, 1])
    assert list(scale(0, 1e-4, 1e-3, 1e-2).places.values()) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_a_tick_never_shows_a_rounded_value_that_is_another_one() -> None:
    assert [label for _, label in scale(0.9, 0.9995).ticks] == ["0.9", "0.9995"]
    assert [label for _, label in scale(0.12345678, 0.12345679).ticks] == ["0.12345678", "0.12345679"]
    assert [label for _, label in scale(10**-2.5, 1.0).ticks] == ["0.00316", "1"]


@pytest.mark.parametrize(("monitor", "best"), [("val/auroc", 0.9), ("val/loss", 0.1)])
def test_the_best_score_is_on_top_and_the_worst_at_the_bottom(monitor: str, best: float) -> None:
    scores = score_scale([done("a", 0.1), done("b", 0.9), failed("c")], monitor)
    assert (scores.place(best), scores.place(1.0 - best)) == (1, 0)
    assert [place for place, _ in scores.ticks] == sorted(place for place, _ in scores.ticks)


def test_one_run_that_came_to_nothing_does_not_squeeze_the_others() -> None:
    rows = [done(f"{i}", 0.98 + i / 1000) for i in range(10)]
    scores = score_scale([*rows, done("x", 0.5)], "val/auroc")
    assert (scores.worst, scores.num_worse, scores.place(0.5)) == (0.98, 1, WORSE)
    with pytest.raises(ValueError, match="no run of the sweep has a val/auroc"):
        score_scale([failed("a")], "val/auroc")


# Pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], list[Figure]]:
    """`drawn(kind, monitor)`: every picture of some rows."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figures.append(figure)
        return path

    for module in (sweep_figures, sweep_parallel):
        monkeypatch.setattr(module, "save", keep)

    def draw(kind: str, monitor: str) -> list[Figure]:
        rows = KINDS[kind]
        figures.clear()
        if sum(row.is_scored for row in rows) > 1:
            sweep_figures.draw_effects(rows, monitor, tmp_path / "e.png")
            if sweep_parallel.parallel_keys(rows):
                sweep_parallel.draw_parallel(rows, monitor, tmp_path / "p.png")
        if rows:
            sweep_figures.draw_times(rows, monitor, tmp_path / "t.png")
        return [*figures]

    return draw


def texts_of(figure: Figure) -> list[Text]:
    """What is seen of a picture's texts; slanted ones aside, whose boxes say little."""
    figure.draw_without_rendering()
    found = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title]
        found += [axes._left_title]  # type: ignore[attr-defined]  # no public way to it
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_text() and text.get_visible() and text.get_rotation() in (0, 90)]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_of_a_picture_covers_another_or_leaves_it(kind: str, drawn: Callable[[str, str], list[Figure]]) -> None:
    for figure in drawn(kind, "val/loss" if kind == "grid" else "val/auroc"):
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
        assert boxes
        for text, box in boxes:
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
        for (one, first), (two, second) in itertools.combinations(boxes, 2):
            wide = min(first.x1, second.x1) - max(first.x0, second.x0)
            high = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert wide <= 1 or high <= 1, (one, two)


def test_every_run_is_a_line_from_its_values_to_its_score(drawn: Callable[[str, str], list[Figure]]) -> None:
    rows = KINDS["some failed"]
    lines = [patch for patch in drawn("some failed", "val/auroc")[1].axes[0].patches if isinstance(patch, PathPatch)]
    assert len(lines) == len(rows)
    scores = score_scale(rows, "val/auroc")
    ends = sorted(float(np.asarray(line.get_path().vertices)[-1, 1]) for line in lines)
    lost = [NO_SCORE] * 4
    assert ends == pytest.approx(lost + sorted(scores.place(row.score) for row in rows if row.score is not None))
    assert sum(line.get_linestyle() not in ("-", "solid") for line in lines) == 4
    assert max(lines, key=lambda line: line.get_linewidth()).get_path().vertices[-1, 1] == 1  # type: ignore[index]


def test_the_bar_of_a_value_is_the_mean_of_its_runs(drawn: Callable[[str, str], list[Figure]]) -> None:
    axes = next(axes for axes in drawn("grid", "val/auroc")[0].axes if axes.get_title(loc="left") == "optim")
    bars = [float(np.asarray(line.get_ydata())[0]) for line in axes.lines if line.get_linewidth() == 2.5]
    scores = score_scale(GRID, "val/auroc")
    own = [[row.score for row in GRID if row.score and row.choices["optim"] == optim] for optim in ("adamw", "sgd")]
    assert bars == pytest.approx([scores.place(float(np.mean(found))) for found in own])


def test_pictures_are_the_same_bytes_each_time_and_in_any_order(tmp_path: Path) -> None:
    draws = (sweep_parallel.draw_parallel, sweep_figures.draw_effects, sweep_figures.draw_times)
    for draw in draws:
        first = draw(GRID, "val/auroc", tmp_path / "a.png").read_bytes()
        assert len(first) > 5000
        assert first == draw(GRID[::-1], "val/auroc", tmp_path / "b.png").read_bytes()
