"""A worker that stands for one of pneumolit's commands begins as the command does."""

from __future__ import annotations

import os
import sys

from pneumolit.allocator import allocator_environment


def restart_as_commands_do() -> None:
    """Start this process again under the allocator's settings, which commands do under their own name only."""
    wanted = allocator_environment(os.environ)
    if wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})
