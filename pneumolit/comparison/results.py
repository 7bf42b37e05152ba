"""Write a comparison into its folder: two CSV files, Markdown, one page with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pneumolit.comparison.drawing import costs_of, curves_of, drawn_places
from pneumolit.comparison.gallery import data_roots, find_disagreements, write_thumbnails
from pneumolit.comparison.rows import RowGroup
from pneumolit.comparison.run import Result
from pneumolit.evaluation.agreement import cohen_kappa, common_errors
from pneumolit.report.comparison import MethodRow, comparison_csv, pairs_csv
from pneumolit.report.comparison_curves import MOST_LINES, PRECISION_RECALL, ROC, draw_overlay, draw_panels
from pneumolit.report.comparison_figures import MOST_MATRIX, draw_frontier, draw_matrix
from pneumolit.report.comparison_page import Drawn, Pictures, comparison_markdown, write_comparison_page
from pneumolit.rundir import CompareDir, write_text


def write_comparison(result: Result, folder: CompareDir, *, data_root: str | None, cache_dir: Path) -> None:
    """Write all files of a comparison, each whole or not at all.

    Args:
        result: what was found.
        folder: where to.
        data_root: where the images lie now; None: where the runs found them.
        cache_dir: where phantoms lie.
    """
    page, group = result.page, result.group
    write_text(folder.csv_file, comparison_csv([*page.methods, *page.apart], page.absent))
    write_text(folder.pairs_file, pairs_csv(page.pairs))
    write_text(folder.markdown_file, comparison_markdown(page))
    with TemporaryDirectory() as temporary:  # the pictures live in the page alone
        place = Path(temporary)
        gallery, disputed = _gallery(group, page.methods, place, data_root, cache_dir)
        curves, panels = _curves(group, page.methods, place)
        drawn = Drawn(
            curves=curves,
            panels=panels,
            costs=_costs(page.methods, place),
            agreement=_agreement(group, page.methods, place),
            gallery=gallery,
            disputed=disputed,
        )
        write_comparison_page(folder.page_file, page, drawn)


def _curves(group: RowGroup, rows: Sequence[MethodRow], folder: Path) -> tuple[Pictures, Pictures]:
    """The curves over each other, and in small pictures where there are more than two."""
    if not group.has_scores:
        return [], []
    prevalence = float(group.positives.mean())
    overlays, panels = [], []
    for kind, word in ((ROC, "ROC curves"), (PRECISION_RECALL, "Precision and recall")):
        # The reference comes first, so that it is among the few of the large picture, in the first colour.
        curves = sorted(curves_of(group, rows, kind), key=lambda curve: not curve.is_reference)
        chance = prevalence if kind == PRECISION_RECALL else None
        few = f" of {MOST_LINES} of {len(rows)} methods" if len(rows) > MOST_LINES else ""
        at = f" at this set's prevalence of {prevalence:.2f}" if chance is not None else ""
        overlay = draw_overlay(curves, kind, folder / f"{kind}.png", chance=chance)
        overlays.append((overlay, f"{word}{few}{at}; dotted: chance"))
        if len(curves) > 2:
            some = f" of {len(curves)} of {len(rows)} methods" if len(curves) < len(rows) else ""
            picture = draw_panels(curves, kind, folder / f"{kind}_panels.png")
            panels.append((picture, f"{word}{some}, one picture each, with 95 % bands"))
    return overlays, panels


def _costs(rows: Sequence[MethodRow], folder: Path) -> Pictures:
    pictures = []
    for key, word in (("seconds", "training time"), ("parameters", "the number of parameters")):
        costs = costs_of(rows, key)
        if len(costs) > 1:
            picture = draw_frontier(costs, key, folder / f"frontier_{key}.png")
            pictures.append((picture, f"Accuracy over {word}; numbers are those of the leaderboard"))
    return pictures


def _agreement(group: RowGroup, rows: Sequence[MethodRow], folder: Path) -> Pictures:
    if len(rows) < 2:
        return []
    places = drawn_places(rows, MOST_MATRIX)
    titles = [rows[place].title for place in places]
    decisions = np.column_stack([group.methods[place].decisions for place in places]).astype(str)
    kappa, errors = cohen_kappa(decisions), common_errors(group.correct[:, places])
    some = f" of {len(places)} of {len(rows)} methods" if len(places) < len(rows) else ""
    pictures = (
        ("kappa.png", kappa, "Agreement of decisions, Cohen's kappa", False),
        ("errors.png", errors, f"Errors in common, of {rows[0].num_images} images", True),
    )
    return [
        (draw_matrix(values, titles, folder / name, label=label, is_count=is_count), f"{label}{some}")
        for name, values, label, is_count in pictures
    ]


def _gallery(
    group: RowGroup, rows: Sequence[MethodRow], folder: Path, data_root: str | None, cache_dir: Path
) -> tuple[Pictures, list[str]]:
    if len(rows) < 2:
        return [], []
    found, count = find_disagreements(group, [row.number for row in rows])
    if not found:
        return [], [f"All methods decide all {rows[0].num_images} images alike as to right and wrong."]
    shown = f"the {len(found)} on which they are most evenly divided" if count > len(found) else "all of them"
    total = rows[0].num_images
    words = [f"{count} of {total} images are decided rightly by some methods and wrongly by others; here {shown}."]
    pictures = write_thumbnails(found, data_roots(group, data_root, cache_dir), folder)
    seen = {caption for _, caption in pictures}
    if len(pictures) < len(found):
        lacking = "The images" if not pictures else f"{len(found) - len(pictures)} of the images"
        words.append(
            f"{lacking} cannot be shown, since they are not where the runs found them; data.root=FOLDER says where "
            "they lie now. They are: " + "; ".join(image.caption for image in found if image.caption not in seen)
        )
    return pictures, words
