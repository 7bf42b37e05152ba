"""timm's training script as a contender: its log is read, and it gets as many films as a round has steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._common.films import write_films
from benchmarks._loops.timm_script import read_step_seconds, run_script

LINE = (
    "Train: 0 [{step:>4d}/4 ({share:>3.0f}%)]  Loss: 0.693 (0.690)  Time: {seconds:.3f}s,   62.50/s  "
    "(0.600s,   53.33/s)  LR: 5.000e-02  Data: 0.010 (0.010)\n"
)
SCRIPT = """
import sys
from pathlib import Path
assert "--channels-last" in sys.argv and sys.argv[sys.argv.index("--amp-dtype") + 1] == "bfloat16"
batch = int(sys.argv[sys.argv.index("--batch-size") + 1])
films = list((Path(sys.argv[1]) / "train").rglob("*.jpeg"))
assert len(list((Path(sys.argv[1]) / "val").rglob("*.jpeg"))) >= 2 and all(film.read_bytes() for film in films)
for step in range(len(films) // batch):
    print(LINE.format(step=step, share=0, seconds=5 if step < 2 else 0.25 * step), file=sys.stderr)
"""


def test_steps_are_read_from_the_log_and_nothing_else() -> None:
    log = "Model created, Time: 9s\n" + LINE.format(step=0, share=0, seconds=0.512) + "Test: [0/1]  Time: 2.0 (2.0)\n"
    assert read_step_seconds(log) == [0.512]


def test_the_first_two_steps_of_the_script_are_not_counted(tmp_path: Path) -> None:
    root = write_films(tmp_path / "films", train=6, val=2, side=32)
    script = tmp_path / "train.py"
    script.write_text(f"LINE = {LINE!r}\n{SCRIPT}")
    result = run_script(script, root, backbone="x", device="cpu", batch_size=4, image_size=32, steps=3)
    assert result == {"seconds": pytest.approx(0.25 * (2 + 3 + 4)), "images": 12}


def test_a_script_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    root = write_films(tmp_path / "films", train=2, val=2, side=32)
    script = tmp_path / "train.py"
    script.write_text("raise SystemExit('no such flag')")
    with pytest.raises(SystemExit, match=r"(?s)timm_script=.*ended with code 1:.*no such flag"):
        run_script(script, root, backbone="x", device="cpu", batch_size=2, image_size=32, steps=1)
