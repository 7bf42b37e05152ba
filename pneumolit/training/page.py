"""report.html of a run, made from the run folder alone."""

from __future__ import annotations

from pneumolit.data.dataset import BLOCKS
from pneumolit.report.evaluation import TITLES
from pneumolit.report.figures import draw_training_curves
from pneumolit.report.html import Section, run_page
from pneumolit.report.tables import class_table, headline_table, rule_table, transfer_table
from pneumolit.rundir import RunDir, read_json, write_text
from pneumolit.scoring import headline, read_metrics

_ALTS = {
    "roc.png": "ROC curve with operating points",
    "pr.png": "precision and recall",
    "confusion.png": "confusion matrix, two classes, primary rule",
    "confusion_classes.png": "confusion matrix, all classes, largest logit",
    "reliability.png": "reliability diagram before and after calibration",
    "scores.png": "distribution of scores by class",
}


def write_page(run: RunDir) -> None:
    """Draw the training curves and write report.html from what the run folder holds."""
    names = [n for n in ("test", "val", *BLOCKS) if run.evaluation_metrics_file(n).is_file()]
    evaluations = {n: read_metrics(run.evaluation_metrics_file(n)) for n in names}
    status, environment = read_json(run.status_file), read_json(run.environment_file)
    sections = []
    for name, metrics in evaluations.items():
        folder = run.evaluation_folder(name)
        tables = [headline_table(metrics)]
        if "rules" in metrics:
            tables += [rule_table(metrics), transfer_table(metrics)]
        tables.append(class_table(metrics))
        images = [(folder / file, f"{TITLES[name]}: {alt}") for file, alt in _ALTS.items() if (folder / file).is_file()]
        paragraphs = [metrics["context"]["look"]] if "look" in metrics["context"] else []
        sections.append(Section(TITLES[name], paragraphs, tables, images))
    rows = run.read_metrics()
    if rows:
        draw_training_curves(rows, run.training_curves_file)
        sections.append(
            Section("Training", images=[(run.training_curves_file, "loss, ranking and learning rate by epoch")])
        )
    if not names:
        return  # cut off before anything was scored
    first = names[0]
    weights = environment["weights"]
    summary = [
        ("run", run.path.name),
        ("model", f"{weights['name']} (weights: {weights['kind']} {weights['location']})".replace(" )", ")")),
        ("state", f"{status['state']}, {status.get('seconds', 0) / 60:.1f} minutes"),
        (
            "images",
            ", ".join(f"{n}: {m['num_images']} of {m['num_patients']} patients" for n, m in evaluations.items()),
        ),
        *[(f"{first} {label}", value) for label, value in headline(evaluations[first])],
        (
            "precision",
            f"training {environment['precision']['training']}, scores {environment['precision']['scoring']}",
        ),
        (
            "machine",
            ", ".join([*environment["gpus"]] or [f"{environment['processor']}, {environment['threads']} threads"]),
        ),
    ]
    text = run.config_file.read_text(encoding="utf-8")
    write_text(run.page_file, run_page(title="pneumolit run", summary=summary, sections=sections, config_text=text))
