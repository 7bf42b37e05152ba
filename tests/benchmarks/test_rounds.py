"""Contenders take turns in processes of their own; medians and ratios are those of the counted rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from benchmarks._common.contender import clean_environment, lineup
from benchmarks._common.films import write_films
from benchmarks._common.rounds import choose_steps, interleave, medians, ratios


def test_contenders_take_turns() -> None:
    calls: list[str] = []

    def turn(name: str) -> Callable[[], dict[str, float]]:
        return lambda: calls.append(name) or {"seconds": float(len(calls))}  # type: ignore[func-returns-value]

    results = interleave({name: turn(name) for name in "abc"}, rounds=3)
    assert "".join(calls) == "abcabcabc"
    assert [r["seconds"] for r in results["b"]] == [2, 5, 8]


@pytest.mark.parametrize(("per_step", "steps"), [(0.001, 5000), (0.3, 17), (5.0, 1), (60.0, 1)])
def test_a_round_lasts_about_as_long_as_asked(per_step: float, steps: int) -> None:
    run: list[int] = []

    def measured(count: int) -> dict[str, float]:
        run.append(count)
        return {"seconds": count * per_step}

    found, seconds = choose_steps(measured, 5.0)
    assert found == steps and seconds == pytest.approx(per_step)
    assert len(run) < 8 and sum(run) * per_step < max(4.0, 2 * per_step + 1)  # finding out must not take long itself


def test_a_slow_first_step_does_not_make_the_rounds_short() -> None:
    took = iter([9.0, 2.0])  # of densenet121's bare step on two cores
    found, seconds = choose_steps(lambda count: {"seconds": count * next(took)}, 5.0)
    assert (found, seconds) == (3, 2.0)


def test_medians_and_ratios_leave_out_who_did_not_take_part() -> None:
    middle = medians({"a": [1.0, 30.0, 2.0], "b": [4.0, 4.0]})
    assert middle == {"a": 2.0, "b": 4.0}
    assert ratios(middle, [("a", "b"), ("b", "a"), ("a", "c")]) == {"a_over_b": 0.5, "b_over_a": 2.0}


def test_a_contender_gets_no_settings_of_the_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "LD_PRELOAD"):
        monkeypatch.setenv(name, "x")
    assert not {"GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "LD_PRELOAD"} & set(clean_environment())


def test_a_contender_works_when_it_is_called_and_ends_with_the_lineup(tmp_path: Path) -> None:
    write_films(tmp_path, train=4, val=0, side=32)
    with lineup() as start:
        contender = start("reader", "read_films", ["reader=pillow", "size=16", f"data.root={tmp_path}"])
        assert contender.facts == {"difference": 0.0}
        for count in (3, 5):
            result = contender.run(count)
            assert result["images"] == count and result["seconds"] > 0
        process = contender._process
    assert process.returncode == 0


def test_a_contender_that_fails_is_named_with_what_it_printed(tmp_path: Path) -> None:
    with (
        pytest.raises(SystemExit, match=r"(?s)the contender reader ended with code 1:.*KeyError: 'nothing'"),
        lineup() as start,
    ):
        start("reader", "read_films", ["reader=nothing", "size=16", f"data.root={tmp_path}"])


def test_films_lie_in_class_folders_and_all_differ(tmp_path: Path) -> None:
    write_films(tmp_path, train=6, val=2, side=40)
    films = sorted(tmp_path.rglob("*.jpeg"))
    assert [path.parts[-3:-1] for path in films] == [
        *[("train", "NORMAL")] * 3, *[("train", "PNEUMONIA")] * 3, ("val", "NORMAL"), ("val", "PNEUMONIA")
    ]  # fmt: skip
    assert len({path.read_bytes() for path in films}) == 8
    assert all(Image.open(path).mode == "L" for path in films)
