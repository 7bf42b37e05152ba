"""What the commands are:   python -m pneumolit."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pneumolit
from pneumolit.config import CONFIG_DIR


def list_commands() -> dict[str, str]:
    """What each command does, by name: a command is a module with a primary file in conf/, whose first line says it."""
    commands = {}
    for file in sorted(CONFIG_DIR.glob("*.yaml")):
        if (Path(__file__).parent / f"{file.stem}.py").is_file():
            with file.open(encoding="utf-8") as lines:
                commands[file.stem] = lines.readline().removeprefix("#").partition("   ")[0].strip()
    return commands


def describe(arguments: Sequence[str]) -> tuple[str, int]:
    """What to print for the arguments of `python -m pneumolit`, and the exit code."""
    commands = list_commands()
    if "--version" in arguments:
        return f"pneumolit {pneumolit.__version__}", 0
    words = [argument for argument in arguments if argument not in ("--help", "-h")]
    if not words:
        width = max(map(len, commands))
        lines = [f"  python -m pneumolit.{name:<{width}}   {text}" for name, text in commands.items()]
        return (
            f"pneumolit {pneumolit.__version__}: chest-X-ray pneumonia classifiers. Research software, not a medical "
            "device.\n\n"
            + "\n".join(lines)
            + "\n\nEach answers --help. A first run, without any download:   python -m pneumolit.train experiment=demo"
        ), 0
    if words[0] in commands:
        return f"pneumolit: a dot joins the two words: python -m pneumolit.{shlex.join(arguments)}", 2
    near = difflib.get_close_matches(words[0], commands, n=1)
    offer = f"; did you mean python -m pneumolit.{near[0]}?" if near else ""
    return f"pneumolit: {words[0]} is no command{offer}; the commands are {', '.join(commands)}", 2


def main() -> None:
    """Entry point of the package itself."""
    text, code = describe(sys.argv[1:])
    print(text, file=sys.stderr if code else sys.stdout)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
