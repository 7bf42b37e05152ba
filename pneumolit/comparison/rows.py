"""Which methods judge the same images: only they can be tested against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumolit.comparison.method import Method


@dataclass(frozen=True)
class RowGroup:
    """Methods that judge the same images, with one order of rows.

    Attributes:
        methods: M of them, all with the same `paths`, `patient_ids` and `targets`.
        note: a remark about patients, where the methods read them differently.
    """

    methods: tuple[Method, ...]
    note: str = ""

    @property
    def paths(self) -> np.ndarray:
        """`(N,)` of the images, in ascending order."""
        return self.methods[0].paths

    @property
    def patient_ids(self) -> np.ndarray:
        """`(N,)` who was imaged."""
        return self.methods[0].patient_ids

    @property
    def targets(self) -> np.ndarray:
        """`(N,)` text, what the images show."""
        return self.methods[0].targets

    @property
    def has_patients(self) -> bool:
        """Whether patients are known; else every image counts as its own."""
        return bool((self.patient_ids != self.paths).any())

    @property
    def is_two_class(self) -> bool:
        """Whether targets say pneumonia or not, as "1" and "0"; else they are names of classes, whatever these are."""
        return self.methods[0].scores is not None

    @property
    def has_scores(self) -> bool:
        """Whether there is a two-class view, and images of both classes."""
        return self.is_two_class and len(set(self.targets)) == 2

    @property
    def positives(self) -> np.ndarray:
        """`(N,)` 0/1, 1 is pneumonia; all 0 where no class means pneumonia."""
        if not self.is_two_class:
            return np.zeros(len(self.targets), dtype=np.int64)
        return np.asarray(self.targets == "1", dtype=np.int64)

    @property
    def scores(self) -> np.ndarray:
        """`(N, M)` float; only where `has_scores`."""
        return np.column_stack([m.scores for m in self.methods if m.scores is not None])

    @property
    def correct(self) -> np.ndarray:
        """`(N, M)` bool."""
        return np.column_stack([m.correct for m in self.methods])

    @property
    def called(self) -> np.ndarray:
        """`(N, M)` 0/1, 1 is called pneumonia."""
        return np.column_stack([m.decisions == "1" for m in self.methods]).astype(np.int64)

    def place(self, name: str) -> int:
        """Column of a method."""
        return [m.name for m in self.methods].index(name)


def group_methods(methods: Sequence[Method]) -> list[RowGroup]:
    """Put methods with the same images, targets and view together, the largest group first, else in the order given."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[Method]] = {}
    for method in methods:
        own = _in_order(method)
        groups.setdefault((tuple(own.paths), tuple(own.targets), own.scores is None), []).append(own)
    return [_with_one_reading(found) for found in sorted(groups.values(), key=len, reverse=True)]


def why_apart(group: RowGroup, main: RowGroup) -> str:
    """In words, how the images of a group differ from those of the main one."""
    here, there = dict(zip(group.paths, group.targets, strict=True)), dict(zip(main.paths, main.targets, strict=True))
    shared = here.keys() & there.keys()
    if (group.methods[0].scores is None) != (main.methods[0].scores is None):
        return (
            "no class of it means pneumonia, so that other things are counted"
            if group.methods[0].scores is None
            else ("it has a two-class view, which the others lack")
        )
    other = sum(here[path] != there[path] for path in shared)
    if len(shared) == len(here) == len(there):
        return f"{other} of the {len(here)} images have another target"
    also = f", {other} of them with another target" if other else ""
    return f"{len(here)} images, of which {len(shared)} are among the {len(there)} of the others{also}"


def _in_order(method: Method) -> Method:
    order = np.argsort(method.paths.astype(str), kind="stable")
    if (order == np.arange(len(order))).all():
        return method
    causes = method.causes[order] if len(method.causes) else method.causes
    scores = method.scores[order] if method.scores is not None else None
    return replace(
        method,
        paths=method.paths[order],
        patient_ids=method.patient_ids[order],
        targets=method.targets[order],
        decisions=method.decisions[order],
        scores=scores,
        causes=causes,
    )


def _with_one_reading(methods: Sequence[Method]) -> RowGroup:
    """All with a reading of who was imaged that claims the least: one patient where any of them says so."""
    numbers = [np.unique(m.patient_ids, return_inverse=True)[1] for m in methods]
    sizes = [int(own.max()) + 1 for own in numbers]
    # Patients of all readings are the nodes of a graph, images the links between those of the first and of the others.
    nodes = np.stack([own + start for own, start in zip(numbers, np.cumsum([0, *sizes[:-1]]), strict=True)])  # (M, N)
    others = nodes[1:].ravel()
    links = (np.ones(len(others)), (np.tile(nodes[0], len(nodes) - 1), others))
    count, parts = connected_components(coo_array(links, shape=(sum(sizes),) * 2), directed=False)
    if all(count == size for size in sizes):  # nothing was joined: they part the images alike
        return RowGroup(tuple(replace(m, patient_ids=methods[0].patient_ids) for m in methods))
    patients = parts[nodes[0]].astype(str)
    note = (
        "The methods read differently who was imaged; tests take for one patient whom any of them does, "
        f"{count} in all."
    )
    return RowGroup(tuple(replace(m, patient_ids=patients) for m in methods), note)
