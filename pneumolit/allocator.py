"""Settings of glibc's allocator under which large tensors keep their memory; harmless where the libc is another.

By default glibc maps every block above 32 MB anew and gives it back when it is freed, so each step of training has the
kernel clear some hundred thousand pages. Kept in the heap and backed by huge pages, a block is cleared once. The
settings are read when a process starts, before Python runs: a command therefore starts itself once more with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from pneumolit.interrupts import hold_interrupts

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = {
    "glibc.malloc.mmap_max": "0",  # no block gets a mapping of its own
    "glibc.malloc.trim_threshold": str(2**40),  # bytes free at the heap's end before some are given back: never
    "glibc.malloc.hugetlb": "1",  # the heap asks for transparent huge pages (glibc 2.35 or newer; unknown before)
}
SWITCH = "PNEUMOLIT_ALLOCATOR"  # "default" leaves the allocator alone
_OLDEST = (2, 35)
_MARK = "PNEUMOLIT_RESTARTED"  # a command starts itself again once at most
_QUICK = frozenset(("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"))


def allocator_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable to add for a process that trains; empty where it would do nothing or where the user decided.

    Settings that the user made in the same variable, other variables of glibc's allocator (MALLOC_...) and other
    allocators (LD_PRELOAD) are left as they are.

    Args:
        environment: of the process that will start it.
    """
    if environment.get(SWITCH) == "default" or not _is_suited_glibc():
        return {}
    if environment.get("LD_PRELOAD") or any(name.startswith("MALLOC_") for name in environment):
        return {}
    given = [part for part in environment.get(VARIABLE, "").split(":") if part]
    known = {part.partition("=")[0] for part in given}
    if any(name.startswith("glibc.malloc.") for name in known):
        return {}
    return {VARIABLE: ":".join([*given, *(f"{name}={value}" for name, value in TUNABLES.items())])}


def restart_with_allocator() -> None:
    """Start this very command again under the settings; returns where there is nothing to change.

    The process keeps its number, its open files and its terminal. Only `python -m pneumolit.<command>` is started
    again, and not to print its help or its configuration: in a notebook or a script the process is somebody else's.
    """
    hold_interrupts(False)  # held since the first start, if this is the second
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if not getattr(spec, "name", "").startswith("pneumolit.") or _QUICK.intersection(sys.argv[1:]):
        return
    wanted = allocator_environment(os.environ)
    if not wanted or os.environ.get(_MARK) or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    hold_interrupts(True)
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted, _MARK: "1"})
    except OSError:
        hold_interrupts(False)  # a sandbox without execve: slower, and nothing else


def describe_allocator() -> str:
    """For the record: what this process was started with, "default" where nothing was set."""
    return os.environ.get(VARIABLE) or "default"


def _is_suited_glibc() -> bool:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):  # Windows, macOS, musl
        return False
    parts = version.split(".")[:2]
    return name == "glibc" and all(p.isdigit() for p in parts) and tuple(int(p) for p in parts) >= _OLDEST
