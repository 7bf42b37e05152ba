"""The thin layer before Hydra: literal path values, nearest names in messages, no traceback for a user's mistake."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pneumolit.config import CONFIG_DIR, flatten
from pneumolit.rundir import RunInterruptedError

# Hydra's grammar gives =, commas, brackets and quotes a meaning; in the value of a path they have none.
PATH_KEYS = frozenset(
    ("run_dir", "runs", "input", "output", "predictions", "output_dir", "cache_dir", "data.root", "data.manifest",
     "data.split_file", "model.weights", "hydra.run.dir", "hydra.sweep.dir")
)  # fmt: skip
_ALLOWED_ENVIRONMENT = "PNEUMOLIT_"  # other variables could be secrets, and a run's record shows resolved values
_GROUPS_OF_KEYS = ("freeze", "loss", "optim", "scheduler", "augment", "callbacks")  # whose keys depend on the option
_FLAGS_WITH_VALUE = (
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p",
    "--experimental-rerun",
)  # fmt: skip
_NO_NAME = "Config group override must be"  # Hydra's words about data=null, trainer=3 or =3
WRONG_INPUT, INTERRUPTED = 2, 130

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
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    given = list(sys.argv[1:] if arguments is None else arguments)
    mistakes: list[str] = []

    def job(cfg: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        with _removed_when_empty(folder, Path(str(cfg.output_dir)).absolute()):
            try:
                _refuse_foreign_variables(cfg)
                plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
                assert isinstance(plain, dict)
                _refuse_several_options(HydraConfig.get().overrides.task)
                task({str(k): v for k, v in plain.items()}, folder)
            except (ValueError, OSError, OmegaConfBaseException, HydraException) as error:
                if wants_traceback:
                    raise
                # Kept, not raised: Hydra would print its own word first, and of several jobs only the first error.
                is_hydras = isinstance(error, OmegaConfBaseException | HydraException)
                message = explain_hydra_error(name, str(error), given) if is_hydras else str(error)
                mistakes.append(f"{_overrides(HydraConfig.get())}{message}")

    sys.argv = [f"pneumolit.{name}", *(quote_path_value(a) for a in flags_first(given))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra hand its exceptions on instead of printing them
    try:
        with _terminated_as_interrupted():
            hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _stop(explain_hydra_error(name, str(error) or str(error.__cause__), given), WRONG_INPUT)
    except (ValueError, YAMLError) as error:  # Hydra's, before the command runs
        if wants_traceback:
            raise
        _stop(_explain_file(error) or explain_hydra_error(name, str(error), given), WRONG_INPUT)
    except OSError as error:  # Hydra makes the output folder before the command runs
        if wants_traceback:
            raise
        _stop(f"the output folder cannot be made: {error}; set output_dir=FOLDER or PNEUMOLIT_OUT", WRONG_INPUT)
    except KeyboardInterrupt as stop:
        _stop(str(stop) or "stopped before the end", getattr(stop, "exit_code", INTERRUPTED))
    finally:
        if not wants_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    if mistakes:
        _stop("\npneumolit: ".join(mistakes), WRONG_INPUT)


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Options such as --config-dir before the overrides: argparse does not take them in between.

    >>> flags_first(["a=1", "--config-dir", "mine", "b=2", "--multirun"])
    ['--config-dir', 'mine', '--multirun', 'a=1', 'b=2']
    """
    flags, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in _FLAGS_WITH_VALUE:
            flags += [value for value in (next(rest, None),) if value is not None]
    return [*flags, *overrides]


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: with a word, and without an empty folder left behind."""

    def stop(number: int, frame: Any) -> None:
        raise RunInterruptedError("stopped before the end", 128 + number)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def given_keys() -> list[str]:
    """Keys and groups that the command line of the running command sets, without values."""
    from hydra.core.hydra_config import HydraConfig

    return [override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]


def chosen_folder() -> bool:
    """Whether the command line says where the output of the running command goes."""
    from hydra.core.hydra_config import HydraConfig

    places = ("hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweep.subdir=")
    return any(override.lstrip("+").startswith(places) for override in HydraConfig.get().overrides.hydra)


def compose_without(key: str) -> dict[str, Any]:
    """The configuration of the running command as if its command line did not set a key or group."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    settings = HydraConfig.get()
    overrides = [o for o in settings.overrides.task if o.partition("=")[0].lstrip("+~") != key]
    content = OmegaConf.to_container(compose(settings.job.config_name, overrides=overrides), resolve=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}


def load_option(group: str, option: str) -> dict[str, Any]:
    """The keys of an option of a group as the running command finds it, in folders of the user too."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    cfg = compose(HydraConfig.get().job.config_name, overrides=[f"{group}={option}"])
    content = OmegaConf.to_container(cfg[group], resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


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
    if value.startswith("${") or (key == "runs" and value.startswith("[")):
        return argument
    # In a quoted value a backslash matters only before a quote or at the end, where it must be doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    # A dollar with a brace would still be read as an interpolation inside quotes.
    return f"{key}='{escaped.replace('${', chr(92) + '${')}'"


def explain_hydra_error(name: str, message: str, given: Sequence[str] = ()) -> str:
    """Hydra's message in fewer words, with the nearest keys or options.

    Args:
        name: of the command.
        message: Hydra's.
        given: arguments of the command line.
    """
    if match := re.search(r"Could not find '([^'/]+)/([^']+)'\s+Config search", message):
        inner, _, option = match[2].partition("/")
        if option and (CONFIG_DIR / inner).is_dir():
            return f"{match[2]} is not found; in the defaults of a file of yours write '- override /{inner}: {option}'"
        return f"{match[1]}={match[2]} is no option; see --help for the options, and --config-dir for your own"
    if match := re.search(
        r"Could not find '([^']+)'\s+Available options in '[^']*':\s+(.*?)(?:\nConfig search|\Z)",
        message,
        re.S,
    ):
        group, _, option = match[1].partition("/")  # an option may lie in a folder of the group
        if not (CONFIG_DIR / group).is_dir():
            group, _, option = match[1].rpartition("/")
        options = [o for o in match[2].split() if not o.startswith("_")]
        inside = (CONFIG_DIR / group).glob("*/*.yaml")  # Hydra does not look into folders of a group
        options += [f"{path.parent.name}/{path.stem}" for path in sorted(inside)]
        near = [o for o in options if o.startswith(f"{option}/")]
        offer = f"; did you mean {' or '.join(near)}?" if near else _offer(option, options)
        return f"{group}={option} is no option{offer}; the options are {', '.join(options)}"
    key_match = re.search(r"Could not override '([^']+)'", message) or re.search(
        r"Key '([^']+)' is not in struct", message
    )
    if key_match:
        return _explain_key(name, key_match[1], given)
    if (
        "LexerNoViableAlt" in message
        or "no viable alternative" in message
        or "mismatched input" in message
        or "extraneous input" in message
        or "missing " in message
    ):
        if any(re.search(r"=[\[{]", argument) for argument in given):
            return (
                f"an argument cannot be read: {message.splitlines()[0]}. Put an argument with brackets and spaces into "
                "single quotes as a whole, as in 'stages=[{freeze: head, epochs: 3}, {epochs: 5}]'"
            )
        return (
            f"an argument cannot be read: {message.splitlines()[0]}. Arguments are key=value; quote a value with "
            "special characters twice, as in 'key=\"a, b\"'"
        )
    if match := re.search(r"[Mm]issing mandatory value: (\S+)", message):
        return f"{match[1]} is not set; give {match[1]}=VALUE (see --help)"
    return _shortened(message, given)


def _shortened(message: str, given: Sequence[str]) -> str:
    """Rarer messages in one line."""
    if _NO_NAME in message:
        groups = ["", *_groups()]
        odd = [
            a for a in given if a.partition("=")[0] in groups and re.fullmatch(r"[^=]*=(null|true|false|[-+.\d]*)", a)
        ]
        return f"{odd[0] if odd else 'an argument'} names no option; give group=OPTION, or leave it out for the default"
    if match := re.match(r"Ambiguous value for argument '(.*)'", message):
        key, _, value = match[1].partition("=")
        return (
            f"{match[1]} gives several values; for a list write {key}=[{value}], for one text with a comma "
            f"\"{key}='{value}'\", for several runs add --multirun"
        )
    if match := re.match(r"Could not append to config\. An item is already at '([^']+)'", message):
        return f"{match[1]} is there already; set it without the plus, {match[1]}=VALUE"
    if match := re.match(r"(.*)\n\s+full_key: (\S+)", message):  # an interpolation that leads nowhere
        return f"{match[2]} cannot be read: {match[1]}"
    first = re.split(r"\n\n|\n\s+full_key:", message.strip())[0]
    return " ".join(first.split())


def _explain_file(error: Exception) -> str:
    """Which line of a configuration file cannot be read; empty for other errors."""
    from yaml import MarkedYAMLError

    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name} cannot be read as YAML: {error.problem} (line {mark.line + 1})"
    return f"a configuration file is no UTF-8 text: {error}" if isinstance(error, UnicodeError) else ""


def _explain_key(name: str, key: str, given: Sequence[str]) -> str:
    """Nearest names of a key that does not exist; in a group with options, the keys of the chosen one."""
    keys = known_keys(name, given)
    group, _, leaf = key.partition(".")
    chosen = next((a for a in reversed(given) if a.startswith(f"{group}=")), "")
    own = [k for k in keys if k.startswith(f"{group}.")]
    if leaf and own and group in _GROUPS_OF_KEYS:
        near = difflib.get_close_matches(key, own, n=1, cutoff=0.6)
        further = "; further arguments of the class are written +optim.NAME=VALUE" if group == "optim" else ""
        names, offer = ", ".join(k.partition(".")[2] for k in own), f"; did you mean {near[0]}?" if near else ""
        return f"unknown key {key}{offer} ({chosen or f'the chosen option of {group}'} has {names}{further})"
    same_leaf = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    near = [k for k in dict.fromkeys([*same_leaf, *difflib.get_close_matches(key, keys, n=3, cutoff=0.6)]) if k != key]
    hint = f"; did you mean {' or '.join(near[:4])}?" if near else "; see --help for the keys"
    return f"unknown key {key}{hint}"


def known_keys(name: str, given: Sequence[str] = ()) -> list[str]:
    """Dotted keys and groups of a command's configuration, with the options that its arguments choose."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    groups = _groups()
    choices = [argument for argument in given if argument.partition("=")[0] in groups]
    for overrides in (choices, []):  # an option of the user's own folder is not found here
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
                plain = OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=False)
            break
        except HydraException:
            if not overrides:
                raise
    assert isinstance(plain, dict)
    return [*flatten({str(k): v for k, v in plain.items()}), *groups]


@contextlib.contextmanager
def _removed_when_empty(folder: Path, base: Path) -> Iterator[None]:
    """Hydra makes the output folder before anything was checked; a refused run must not leave it behind.

    Nothing above `base` is touched: an empty folder there belongs to the user, who may be standing in it.
    """
    try:
        yield
    finally:
        for path in (folder, *(p for p in folder.parents if base in p.parents)):
            try:
                path.rmdir()  # refuses where anything is inside
            except FileNotFoundError:
                continue  # the command has taken it away itself
            except OSError:
                break


def _refuse_foreign_variables(cfg: Any) -> None:
    from omegaconf import OmegaConf

    for name in re.findall(r"oc\.env:\s*([A-Za-z_]\w*)", OmegaConf.to_yaml(cfg)):
        if not name.startswith(_ALLOWED_ENVIRONMENT):
            raise ValueError(
                f"the configuration reads the environment variable {name}; only variables that begin with "
                f"{_ALLOWED_ENVIRONMENT} may be read, since a run's record shows what it was told"
            )


def _refuse_several_options(overrides: Sequence[str]) -> None:
    """Hydra would merge optim=[adam,sgd] into an option that nobody wrote; recipes alone are made to be combined."""
    for override in overrides:
        group, _, names = override.partition("=")
        if group in _groups() and group != "experiment" and names.startswith("["):
            raise ValueError(
                f"{override} names several options; give one, or --multirun {group}={names.strip('[]')} for a run each"
            )


def _overrides(hydra_cfg: Any) -> str:
    """Which job of several a message belongs to; empty for a single run."""
    from hydra.types import RunMode

    if hydra_cfg.mode != RunMode.MULTIRUN:
        return ""
    return f"job {hydra_cfg.job.num} ({hydra_cfg.job.override_dirname}): "


def _groups() -> list[str]:
    """Config groups: the folders of conf/."""
    return [path.name for path in CONFIG_DIR.iterdir() if path.is_dir()]


def _offer(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _stop(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    print(f"pneumolit: {message}", file=sys.stderr)
    raise SystemExit(code)
