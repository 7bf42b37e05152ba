"""The thin layer before Hydra: literal path values, no traceback for a user's mistake, no empty folder left behind."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import re
import select
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import pneumolit
from pneumolit.composition import OUR_VARIABLES, plain_config, register_resolvers
from pneumolit.config import CONFIG_DIR
from pneumolit.foreign_options import foreign_code_refused
from pneumolit.hydra_errors import explain_error
from pneumolit.interrupts import INTERRUPTED, STOPPED, raised_as_exceptions
from pneumolit.multirun import SweepRefusedError, bare_sweeps_removed
from pneumolit.rundir import printable

# Hydra's grammar gives =, commas, brackets and quotes a meaning; in a path and in the text of a claim they have none.
PATH_KEYS = frozenset(
    ("run_dir", "runs", "input", "output", "predictions", "output_dir", "cache_dir", "data.root", "data.manifest",
     "data.split_file", "model.weights", "distill.teacher", "hydra.run.dir", "hydra.sweep.dir", "claim", "claims_file",
     "lung_masks", "heatmaps", "folds")
)  # fmt: skip
_LIST_KEYS = ("runs", "predictions")  # may be [a,b]
_FOLDER_KEYS = ("output_dir", "hydra.run.dir", "hydra.sweep.dir")
_FLAGS_WITH_VALUE = (
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p",
    "--experimental-rerun",
)  # fmt: skip
_INFO_FLAGS = ("--info", "-i")
_HELP_FLAGS = frozenset(("--help", "-h", "--hydra-help"))
WRONG_INPUT = 2

Task = Callable[[dict[str, Any], Path], None]


def run_command(name: str, task: Task, arguments: Sequence[str] | None = None) -> None:
    """Run one command as a Hydra application.

    Args:
        name: of the command and of its primary file in conf/.
        task: gets the composed, resolved configuration as plain values and the output folder.
        arguments: of the command line; None takes the process's own.

    Raises:
        SystemExit: after a mistake of the user (2) or an interrupt (130), with one message on standard error.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for variable in [name for name, value in os.environ.items() if name.startswith(OUR_VARIABLES) and not value]:
        del os.environ[variable]  # empty is how shells say unset; as a path it would be the folder one stands in
    # Pillow's words on damaged files name none of them; what cannot be read is told with its name and reason.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--version" in given:  # Hydra would answer with its own
        print(f"pneumolit {pneumolit.__version__}")
        return
    mistakes: list[str] = []
    unread: list[BrokenPipeError] = []

    def job(cfg: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        with _removed_when_empty(folder, Path(str(cfg.output_dir)).absolute()):
            try:
                task(plain_config(cfg), folder)
            except (
                ValueError,
                OSError,
                YAMLError,
                csv.Error,
                OmegaConfBaseException,
                HydraException,
            ) as error:
                if wants_traceback:
                    raise
                if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
                    unread.append(error)
                    return
                is_hydras = isinstance(error, OmegaConfBaseException | HydraException)
                message = explain_error(name, error, given) if is_hydras else _with_its_key(error, cfg)
                # Kept, not raised: Hydra would print its own word first, and of several jobs only the first error.
                mistakes.append(f"{_overrides(HydraConfig.get())}{message}")

    sys.argv = [f"pneumolit.{name}", *(quote_path_value(a) for a in flags_first(given))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra hand its exceptions on instead of printing them
    try:
        _refuse_unknown_flags(sys.argv[1:])
        _refuse_no_folder(given)
        register_resolvers()
        with raised_as_exceptions(), bare_sweeps_removed(), _groups_listed_once(sys.argv[1:]), foreign_code_refused():
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=name)(job)()
        if unread:
            raise unread[0]
    except BrokenPipeError:  # whoever read has seen enough: `--help | head`, `predict output=- | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        raise SystemExit(0) from None
    except (HydraException, OmegaConfBaseException, ValueError, YAMLError, OSError) as error:  # before the task begins
        if wants_traceback:
            raise
        _stop(explain_error(name, error, given), WRONG_INPUT)
    except SweepRefusedError as error:
        if wants_traceback:
            raise
        _stop(str(error), WRONG_INPUT)
    except KeyboardInterrupt as stop:
        _stop(str(stop) or STOPPED, getattr(stop, "exit_code", INTERRUPTED))
    finally:
        if not wants_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    if mistakes:
        _stop("\npneumolit: ".join(mistakes), WRONG_INPUT)


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Options such as --config-dir before the overrides: argparse does not take them in between.

    >>> flags_first(["a=1", "--config-dir", "mine", "b=2", "--multirun"])
    ['--config-dir', 'mine', '--multirun', 'a=1', 'b=2']
    >>> flags_first(["a=1", "--info"])
    ['--info', 'all', 'a=1']
    """
    flags, overrides = [], []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in _FLAGS_WITH_VALUE and rest:
            flags.append(rest.popleft())
        elif argument in _INFO_FLAGS:  # without the value, which may be left out, it would take the first override
            has_value = rest and not rest[0].startswith("-") and "=" not in rest[0]
            flags.append(rest.popleft() if has_value else "all")
    return [*flags, *overrides]


def quote_path_value(argument: str) -> str:
    """Quote the value of a path key for Hydra, so that every character stands for itself.

    >>> quote_path_value("data.root=/a b/x=1,2")
    "data.root='/a b/x=1,2'"
    """
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in PATH_KEYS or not value or value == "null":
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return argument
    if value.startswith("${") or (key in _LIST_KEYS and value[0] == "[" and value[-1] == "]"):
        return argument
    # In a quoted value a backslash matters only before a quote or at the end, where it must be doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    # A dollar with a brace would still be read as an interpolation inside quotes.
    return f"{key}='{escaped.replace('${', chr(92) + '${')}'"


@contextlib.contextmanager
def _removed_when_empty(folder: Path, base: Path) -> Iterator[None]:
    """Hydra makes the output folder before anything was checked; a refused run must not leave it behind.

    Nothing above `base` is touched: an empty folder there belongs to the user, who may be standing in it.
    """
    try:
        yield
    finally:
        for path in (folder, *(p for p in folder.parents if base in p.parents)):
            if path == Path.cwd():  # hydra.run.dir=. was meant
                break
            try:
                path.rmdir()  # refuses where anything is inside
            except FileNotFoundError:
                continue  # the command has taken it away itself
            except OSError:
                break


@contextlib.contextmanager
def _groups_listed_once(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra's help asks six times for the options of every group, and for each answer copies all its sources."""
    if not _HELP_FLAGS & set(arguments):
        yield
        return
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    original = ConfigLoaderImpl.get_group_options
    ConfigLoaderImpl.get_group_options = functools.cache(original)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = original  # type: ignore[method-assign]


def _is_unread(stream: TextIO) -> bool:
    """Whether the reader of a pipe has gone; a broken pipe can also be one to a process of our own."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)  # errors are always told
    except (OSError, ValueError):  # no file of the system's: a notebook, a test
        return False
    return bool(poll.poll(0))


def _with_its_key(error: Exception, cfg: Any) -> str:
    """The system's own words about a file name no key; ours do already."""
    if isinstance(error, OSError) and error.errno is not None:
        for key in ("cache_dir", "output_dir"):
            if cfg.get(key) and str(error.filename).startswith(str(cfg[key])):
                return f"{key}={cfg[key]} cannot be used: {error}; give another folder"
    return str(error)


def _refuse_unknown_flags(arguments: Sequence[str]) -> None:
    """Before Hydra reads them: its parser would answer with nine lines of usage."""
    from hydra._internal.utils import get_args_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            get_args_parser().parse_args(list(arguments))
    except SystemExit:
        raise ValueError(
            f"{said.getvalue().rpartition('error: ')[2].strip()}; keys and groups are written without dashes, as in "
            "data=demo seed=1, and --help shows them"
        ) from None


def _refuse_no_folder(arguments: Sequence[str]) -> None:
    """Hydra would take null for a folder named None, and an empty one for the root of the disk or where one stands."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.lstrip("+~") in _FOLDER_KEYS and value.strip("'\"") in ("", "null"):
            raise ValueError(f"{argument} names no folder; leave it out for the default (PNEUMOLIT_OUT, else outputs)")
        if key.lstrip("+~") in PATH_KEYS and value.strip("'\"").startswith("~"):
            try:
                Path(value.strip("'\"")).expanduser()
            except RuntimeError:
                raise ValueError(f"{argument}: this machine has no such user; give the whole path") from None


def _overrides(hydra_cfg: Any) -> str:
    """Which job of several a message belongs to; empty for a single run."""
    from hydra.types import RunMode

    if hydra_cfg.mode != RunMode.MULTIRUN:
        return ""
    return f"job {hydra_cfg.job.num} ({hydra_cfg.job.override_dirname}): "


def _stop(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    shown = printable(message, keep="\n")
    print(f"pneumolit: {shown}", file=sys.stderr)
    raise SystemExit(code)
