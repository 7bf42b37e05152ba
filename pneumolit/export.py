"""A trained model as a bundle or an ONNX file:   python -m pneumolit.export run_dir=FOLDER."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

from pathlib import Path
from typing import Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.config import check_values
from pneumolit.entry import run_command


def export(cfg: dict[str, Any], folder: Path) -> None:
    """Write a bundle, and if asked an ONNX file, of a finished run."""
    check_values(cfg)
    if not isinstance(cfg["onnx"], bool):
        raise ValueError(f"onnx must be true or false, got {cfg['onnx']!r}")
    if cfg["run_dir"] in (None, ""):
        raise ValueError("run_dir is missing; give run_dir=FOLDER, the folder that a training run printed")
    target = None if cfg["output"] is None else Path(str(cfg["output"])).expanduser()
    if target is not None and target.exists() and not target.is_dir():
        raise ValueError(f"output={target} is a file; give a folder for the bundle")
    from rich.console import Console

    from pneumolit.exporting.example import EXAMPLE_FILE
    from pneumolit.exporting.run import export_model
    from pneumolit.rundir import printable, shortest

    console = Console(soft_wrap=False)
    done = export_model(cfg, target, console)

    def say(text: str) -> None:
        console.print(f"  {printable(text)}", highlight=False, markup=False, soft_wrap=True)

    for note in done.notes:
        say(f"- {note}.")
    if done.onnx_file is not None:
        say(f"- The ONNX file was run: probabilities differ from the model's by at most {done.onnx_difference:.1g}.")
    say("Research software, not a medical device.")
    say(f"bundle  {shortest(done.folder)}   {done.num_bytes / 1e6:.1f} MB")
    if done.onnx_file is not None:
        say(f"onnx    {shortest(done.onnx_file)}")
        say(f"try     python {shortest(done.folder / EXAMPLE_FILE)} film.jpeg   (needs no pneumolit)")
    say(f"next    python -m pneumolit.predict run_dir={shortest(done.folder)} input=FILES")


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("export", export)


if __name__ == "__main__":
    main()
