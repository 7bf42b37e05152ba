"""Only methods with the same images and targets are set against each other, row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumolit.comparison.method import Method, read_method
from pneumolit.comparison.naming import distinct, name_methods
from pneumolit.comparison.pairs import against_one, all_pairs, compare_pairs
from pneumolit.comparison.rows import RowGroup, group_methods, why_apart
from pneumolit.comparison.run import Settings, collect_methods, compare
from pneumolit.comparison.seeds import seeds_part
from pneumolit.comparison.table import choose_reference
from pneumolit.evaluation.mcnemar import clustered_mcnemar, mcnemar_exact, patient_gains, sign_flip_mid_p
from pneumolit.evaluation.multiplicity import holm
from pneumolit.evaluation.paired import auroc_differences
from pneumolit.labels import LabelSet
from pneumolit.rundir import RunDir, read_json, write_json


@pytest.fixture(scope="module")
def methods(four_runs: list[RunDir]) -> list[Method]:
    found = [read_method(run, "test", "primary") for run in four_runs]
    return name_methods([one for one in found if isinstance(one, Method)])


def test_other_images_stand_apart_with_the_reason_and_are_never_tested(
    made_runs: ModuleType, four_runs: list[RunDir], tmp_path: Path
) -> None:
    other = made_runs.write_run(tmp_path / "other", sets={"val": 40, "test": 50}, draw=9)
    settings = Settings("t", num_resamples=100)
    found, absent = collect_methods([*four_runs, other], [], settings)
    page = compare(found, absent, settings).page
    assert [row.source.rpartition("/")[2] for row in page.apart] == ["other"]
    assert page.apart[0].reason == "100 images, of which 100 are among the 120 of the others"
    assert page.apart[0].number == 5
    assert len(page.methods) == 4 and len(page.pairs) == 3
    assert not any(page.apart[0].name in (pair.first + pair.second) for pair in page.pairs)


def test_the_same_images_in_another_order_are_the_same_images(methods: list[Method]) -> None:
    """Rows taken by place would set every image against another one."""
    order = np.random.default_rng(0).permutation(len(methods[1]))
    assert methods[1].scores is not None
    shuffled = replace(
        methods[1], paths=methods[1].paths[order], patient_ids=methods[1].patient_ids[order],
        targets=methods[1].targets[order], decisions=methods[1].decisions[order], scores=methods[1].scores[order],
        causes=methods[1].causes[order],
    )  # fmt: skip
    (plain,) = group_methods(methods[:2])
    (mixed,) = group_methods([methods[0], shuffled])
    assert (mixed.scores == plain.scores).all() and (mixed.correct == plain.correct).all()
    assert list(mixed.paths) == sorted(mixed.paths)


def test_another_target_of_one_image_is_enough_to_stand_apart(methods: list[Method]) -> None:
    targets = methods[1].targets.copy()
    targets[3] = {"0": "1", "1": "0"}[targets[3]]
    groups = group_methods([methods[0], replace(methods[1], targets=targets)])
    assert len(groups) == 2
    assert why_apart(groups[1], groups[0]) == "1 of the 120 images have another target"


def test_of_two_readings_of_who_was_imaged_the_tests_take_the_fewer_patients(methods: list[Method]) -> None:
    alone = replace(methods[1], patient_ids=np.array([f"p{i}" for i in range(120)], dtype=object))
    (group,) = group_methods([alone, methods[0]])
    assert len(set(group.patient_ids)) == 60
    assert "60 in all" in group.note


def test_readings_that_part_the_images_alike_are_one_and_others_are_joined(methods: list[Method]) -> None:
    def read(*names: str) -> Method:
        size = len(names)
        one = methods[0]
        return replace(
            one, paths=one.paths[:size], targets=one.targets[:size], decisions=one.decisions[:size],
            scores=None if one.scores is None else one.scores[:size], patient_ids=np.array(names, dtype=object),
            causes=one.causes[:0],
        )  # fmt: skip

    (alike,) = group_methods([read("bacteria-1", "bacteria-1", "virus-3", "virus-4"), read("7", "7", "8", "9")])
    assert not alike.note and [len(set(m.patient_ids)) for m in alike.methods] == [3, 3]
    (joined,) = group_methods([read("1", "1", "2", "3"), read("1", "2", "3", "3")])  # 1-2 by one, 3-4 by the other
    assert "2 in all" in joined.note
    first, second, third, fourth = joined.patient_ids
    assert first == second != third == fourth


def test_images_that_chose_an_epoch_are_said_to_flatter(methods: list[Method]) -> None:
    chosen = [replace(m, facts=replace(m.facts, chosen_by="block/auroc")) for m in methods[:2]]
    for split, number in (("block", 2), ("test", 0)):
        page = compare([*chosen, *methods[2:]], [], Settings("t", split=split, num_resamples=100)).page
        told = [note for note in page.notes if "was chosen by these very images (block/auroc)" in note]
        assert bool(told) == bool(number) and all(f"The epoch of {number} of 4 methods" in note for note in told)
    _, how = choose_reference(chosen, None, "block")
    assert how.endswith("these images chose its epoch (block/auroc)")


def test_on_validation_only_a_reference_that_it_chose_is_said_to_look_better(methods: list[Method]) -> None:
    for wanted in (None, methods[2].name):
        page = compare(methods, [], Settings("t", split="val", reference=wanted, num_resamples=100)).page
        assert any("that the reference was chosen by" in note for note in page.notes) == (wanted is None)


def test_a_number_behind_a_name_is_none_that_another_name_has(methods: list[Method]) -> None:
    named = distinct([replace(one, name=name) for one, name in zip(methods, ("a", "a (2)", "a", "a"), strict=True)])
    assert [one.name for one in named] == ["a", "a (2)", "a (3)", "a (4)"]


def test_pairs_say_first_minus_second_and_count_images_one_by_one(methods: list[Method]) -> None:
    (group,) = group_methods(methods)
    titles = [method.name for method in group.methods]
    pairs = all_pairs(group)
    assert len(pairs) == 6
    rows = compare_pairs(group, pairs, titles, num_resamples=100)
    for (one, other), row in zip(pairs, rows, strict=True):
        a, b = group.correct[:, one], group.correct[:, other]
        assert (row.only_first, row.only_second, row.both_wrong) == ((a & ~b).sum(), (b & ~a).sum(), (~a & ~b).sum())
        assert row.accuracy.value == pytest.approx(a.mean() - b.mean())
        aurocs = [roc_auc_score(group.positives, group.scores[:, i]) for i in (one, other)]
        assert row.auroc is not None and row.auroc.value == pytest.approx(aurocs[0] - aurocs[1])
        assert row.resampled["auroc"][0] == pytest.approx(aurocs[0] - aurocs[1])
        assert row.mcnemar_exact == mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum()))
    assert [row.auroc_holm for row in rows] == holm([row.auroc.p_value if row.auroc else None for row in rows])
    assert [row.accuracy_holm for row in rows] == holm([row.accuracy.p_value for row in rows])


def test_of_one_class_the_resampled_difference_has_the_sign_of_the_difference(methods: list[Method]) -> None:
    """All images with pneumonia: what is right is called 1 there, and not 0."""
    ill = np.flatnonzero(methods[0].targets == "1")[:40]
    columns = ("paths", "patient_ids", "targets")
    one, other = (
        replace(
            method,
            **{name: getattr(method, name)[ill] for name in columns},
            scores=np.arange(40.0),
            causes=methods[0].causes[ill],
            decisions=np.where(np.arange(40) < right, "1", "0").astype(object),
        )
        for method, right in zip(methods[:2], (40, 30), strict=True)
    )
    (group,) = group_methods([one, other])
    (row,) = compare_pairs(group, [(0, 1)], ["1  one", "2  other"], num_resamples=200)
    value, interval = row.resampled["accuracy"]
    assert row.accuracy.value == value == 0.25
    assert interval is not None and 0 < interval[0] < 0.25 < interval[1]


def test_where_few_patients_differ_the_p_value_is_that_of_flipped_signs(methods: list[Method]) -> None:
    near = methods[0].decisions.copy()
    near[::12] = np.where(near[::12] == "1", "0", "1")
    (group,) = group_methods([*methods[:2], replace(methods[0], name="near", decisions=near)])
    rows = compare_pairs(group, all_pairs(group), [m.name for m in group.methods], num_resamples=100)
    for (one, other), row in zip(all_pairs(group), rows, strict=True):
        gains = patient_gains(group.correct[:, one], group.correct[:, other], group.patient_ids)[1]
        plain = clustered_mcnemar(group.correct[:, one], group.correct[:, other], group.patient_ids)
        assert row.is_sign_flip == (np.count_nonzero(gains) < 25)
        assert row.accuracy.p_value == (sign_flip_mid_p(gains) if row.is_sign_flip else plain.p_value)
        assert row.accuracy.interval == plain.interval
    assert len({row.is_sign_flip for row in rows}) == 2


def test_the_plain_tests_take_images_and_the_others_patients(methods: list[Method]) -> None:
    (group,) = group_methods(methods)
    (row,) = compare_pairs(group, [(0, 1)], [m.name for m in group.methods], num_resamples=100)
    (plain,) = auroc_differences(group.positives, group.scores, np.arange(120), [(0, 1)])
    (clustered,) = auroc_differences(group.positives, group.scores, group.patient_ids, [(0, 1)])
    assert row.delong == plain and row.auroc == clustered
    assert plain.p_value != clustered.p_value


def test_each_method_is_tested_once_against_the_reference(methods: list[Method]) -> None:
    group = RowGroup(tuple(methods))
    assert against_one(group, 2) == [(0, 2), (1, 2), (3, 2)]


def test_the_reference_is_the_best_on_validation_whatever_it_does_on_test(
    methods: list[Method], four_runs: list[RunDir]
) -> None:
    worst = min(methods, key=lambda method: float(method.metrics["ranking"]["auroc"]))
    praised = replace(worst, facts=replace(worst.facts, val_auroc=0.9999))
    others = [method for method in methods if method is not worst]
    assert choose_reference([*others, praised], None)[0] is praised
    settings = Settings("t", num_resamples=100)
    found, absent = collect_methods(four_runs, [], settings)
    page = compare(found, absent, settings).page
    (reference,) = [row for row in page.methods if row.is_reference]
    assert reference.source.endswith("/c")
    assert "the highest validation AUROC" in dict(page.summary)["reference"]
    named = compare(found, absent, Settings("t", reference="b", num_resamples=100)).page
    assert [row.source[-1] for row in named.methods if row.is_reference] == ["b"]
    assert {pair.second for pair in named.pairs} == {row.title for row in named.methods if row.is_reference}


def test_an_unknown_reference_is_refused_with_what_may_be_meant(four_runs: list[RunDir]) -> None:
    settings = Settings("t", reference="denset121", num_resamples=100)
    found, absent = collect_methods(four_runs, [], settings)
    with pytest.raises(ValueError, match=r"reference=denset121 is none of the 4 methods .* did you mean densenet121"):
        compare(found, absent, settings)


def test_names_say_what_differs_and_at_last_the_folder(made_runs: ModuleType, tmp_path: Path) -> None:
    write = made_runs.write_run
    runs = [
        write(tmp_path / "a", settings={"seed": 0}),
        write(tmp_path / "b", settings={"seed": 1}),
        write(tmp_path / "c", settings={"seed": 1}),
        write(tmp_path / "d", settings={"backbone": "mlp"}, policy="head"),
    ]
    found = [read_method(run, "test", "primary") for run in runs]
    names = [m.name for m in name_methods([m for m in found if isinstance(m, Method)])]
    assert names == [
        "resnet18.tv_in1k, everything, seed=0", "resnet18.tv_in1k, everything, seed=1, b",
        "resnet18.tv_in1k, everything, seed=1, c", "mlp.tv_in1k, head",
    ]  # fmt: skip


def test_a_file_beside_them_does_not_change_the_names_of_runs(made_runs: ModuleType, tmp_path: Path) -> None:
    runs = [made_runs.write_run(tmp_path / name, draw=i) for i, name in enumerate("ab")]  # differ by folder alone
    file = tmp_path / "theirs.csv"
    predictions = runs[0].read_predictions("test")
    rows = zip(predictions.paths, predictions.scores, strict=True)
    file.write_text("path,score\n" + "".join(f"{path},{score}\n" for path, score in rows))
    alone, _ = collect_methods(runs, [], Settings(name="t", split="test"))
    beside, _ = collect_methods(runs, [file], Settings(name="t", split="test", num_resamples=10))
    assert [m.name for m in beside] == [*(m.name for m in alone), "theirs"]


def test_images_of_other_contents_under_the_same_names_are_told(made_runs: ModuleType, tmp_path: Path) -> None:
    runs = [made_runs.write_run(tmp_path / name, draw=i) for i, name in enumerate("ab")]
    settings = Settings("t", num_resamples=20)
    alike = compare(*collect_methods(runs, [], settings), settings).page.notes
    prints = read_json(runs[1].data_file)["fingerprints"] | {"test": "others"}
    write_json(runs[1].data_file, read_json(runs[1].data_file) | {"fingerprints": prints})
    unlike = compare(*collect_methods(runs, [], settings), settings).page.notes
    (told,) = set(unlike) - set(alike)
    assert "files of other contents under the same names" in told


def test_seeds_of_a_task_without_pneumonia_are_not_said_to_be_none(made_runs: ModuleType, tmp_path: Path) -> None:
    runs = [
        made_runs.write_run(tmp_path / str(i), labels=made_runs.PLAIN, draw=i, settings={"seed": i}, sets={"test": 60})
        for i in range(2)
    ]
    settings = Settings("t", num_resamples=20)
    assert seeds_part(compare(*collect_methods(runs, [], settings), settings), settings)[1:] == (
        ["Means over seeds need a class that means pneumonia, and images with and without it."], [],
    )  # fmt: skip


def test_keys_of_a_sweep_stand_only_where_they_tell_runs_apart(made_runs: ModuleType, tmp_path: Path) -> None:
    """Else a long name loses its middle, which may be all that two names differ in."""
    write, long = made_runs.write_run, {"backbone": "tf_efficientnet_lite0"}
    keys = {"data.target": "auto", "model.image_size": 96}
    runs = [
        write(tmp_path / "a", settings=long, choices={"augment": "light", **keys}),
        write(tmp_path / "b", settings=long, choices={"augment": "strong", **keys}),
        write(tmp_path / "c", settings={"backbone": "vit_tiny_patch16_224", "model": {"pretrained": False}}),
    ]
    found = [read_method(run, "test", "primary") for run in runs]
    assert [m.name for m in name_methods([m for m in found if isinstance(m, Method)])] == [
        "tf_efficientnet_lite0.tv_in1k, everything, augment=light",
        "tf_efficientnet_lite0.tv_in1k, everything, augment=strong",
        "vit_tiny_patch16_224, everything, from scratch",
    ]


def test_a_set_without_pneumonia_is_compared_by_accuracy_alone(made_runs: ModuleType, tmp_path: Path) -> None:
    runs = [
        made_runs.write_run(tmp_path / n, labels=made_runs.PLAIN, draw=i, sets={"test": 60}) for i, n in enumerate("ab")
    ]
    settings = Settings("t", num_resamples=100)
    found, absent = collect_methods(runs, [], settings)
    page = compare(found, absent, settings).page
    assert page.pairs[0].auroc is None and page.pairs[0].auroc_holm is None and page.pairs[0].accuracy_holm is not None
    assert all("auroc" not in row.numbers and row.counts is None for row in page.methods)


@pytest.mark.parametrize("others", [0, 2])
def test_classes_called_1_and_0_that_mean_no_pneumonia_are_no_two_class_view(
    made_runs: ModuleType, tmp_path: Path, others: int
) -> None:
    plain = LabelSet(("0", "1"))
    runs = [made_runs.write_run(tmp_path / f"p{i}", labels=plain, draw=i, sets={"test": 60}) for i in range(3)]
    # The same images and the same words for what they show, but one of the two means pneumonia.
    runs += [made_runs.write_run(tmp_path / f"b{i}", labels=made_runs.BINARY, draw=i) for i in range(others)]
    settings = Settings("t", num_resamples=100)
    page = compare(*collect_methods(runs, [], settings), settings).page
    assert len(page.methods) == 3 and page.pairs[0].auroc is None
    assert [row.reason for row in page.apart] == ["it has a two-class view, which the others lack"] * others


def test_runs_that_differ_in_their_seed_alone_are_averaged(made_runs: ModuleType, tmp_path: Path) -> None:
    write, settings = made_runs.write_run, Settings("t", num_resamples=100)
    runs = [write(tmp_path / str(seed), draw=seed, settings={"seed": seed}) for seed in range(3)]
    runs.append(write(tmp_path / "other", settings={"backbone": "mlp"}))
    result = compare(*collect_methods(runs, [], settings), settings)
    _, _, (table,) = seeds_part(result, settings)
    (line,) = table.rows  # the other configuration has one seed only
    assert line[2] == "3"
    aurocs = [row.numbers["auroc"] for row in result.page.methods if row.facts["model"].startswith("resnet18")]
    assert line[table.header.index("AUROC")].startswith(f"{np.mean(aurocs):.3f}")
    # The same seed once more: its first folder counts, not the better of both.
    again = write(tmp_path / "9", draw=7, noise=0.1, settings={"seed": 2})
    result = compare(*collect_methods([*runs, again], [], settings), settings)
    _, words, (table,) = seeds_part(result, settings)
    assert table.rows[0][2:] == line[2:] and "are not counted (1)" in words[-1]
    # Another seed on other training images is no further seed of the configuration.
    write_json(runs[1].data_file, read_json(runs[1].data_file) | {"fingerprints": {"train": "others", "test": "test"}})
    _, _, (table,) = seeds_part(compare(*collect_methods(runs, [], settings), settings), settings)
    assert table.rows[0][2] == "2"
    alone = compare(*collect_methods(runs[2:], [], settings), settings)
    assert seeds_part(alone, settings)[1:] == (["No two of the runs on these images differ in their seed alone."], [])
