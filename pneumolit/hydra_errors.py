"""Hydra's errors in fewer words, with the nearest names of what was mistyped."""

from __future__ import annotations

import difflib
import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pneumolit.config import CONFIG_DIR, flatten

_GROUPS_OF_KEYS = ("freeze", "loss", "optim", "scheduler", "augment", "callbacks")  # whose keys depend on the option
_LAUNCHERS = "hydra/launcher/"
_NO_NAME = "Config group override must be"  # Hydra's words about data=null, trainer=3 or =3


def explain_error(name: str, error: Exception, given: Sequence[str] = ()) -> str:
    """What went wrong before a command's task began, in one line for the person who typed the arguments.

    Args:
        name: of the command.
        error: raised by Hydra, OmegaConf or PyYAML, or an OSError of the output folder that Hydra makes.
        given: arguments of the command line.
    """
    from hydra.errors import HydraException

    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's missing files are both
        return f"the output folder cannot be made: {error}; set output_dir=FOLDER or PNEUMOLIT_OUT"
    return _explain_file(error) or explain_hydra_error(name, str(error) or str(error.__cause__), given)


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
        if match[1].startswith(_LAUNCHERS):
            option = match[1].removeprefix(_LAUNCHERS)
            options = sorted(path.stem for path in (CONFIG_DIR / _LAUNCHERS).glob("*.yaml"))
            offer = _offer(option, options)
            return f"{_LAUNCHERS[:-1]}={option} is no option{offer}; the options are {', '.join(options)}"
        group, _, option = match[1].partition("/")  # an option may lie in a folder of the group
        if not (CONFIG_DIR / group).is_dir():
            group, _, option = match[1].rpartition("/")
        options = [o for o in match[2].split() if not o.startswith("_")]
        folder = CONFIG_DIR / group  # Hydra looks into no folder of a group
        inside = sorted(path for path in folder.glob("*/**/*.yaml") if not path.name.startswith("_"))
        options += [path.relative_to(folder).with_suffix("").as_posix() for path in inside]
        place = option.partition("/")[0]
        own = [o for o in options if o.startswith(f"{place}/")]
        if place == option and own:
            return f"{group}={option} is no option but a folder of them: {', '.join(own)}"
        listed = ", ".join(own or _short(options))
        return f"{group}={option} is no option{_offer(option, options)}; the options are {listed}"
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
        word = next((a for a in given if "=" not in a and a in message.splitlines()[0]), "")
        if word:
            return f"{word} is no argument, which are key=value{_meant(name, word, given)}; see --help"
        return (
            f"an argument cannot be read: {message.splitlines()[0]}. Arguments are key=value; quote a value with "
            "special characters twice, as in 'key=\"a, b\"'"
        )
    if match := re.search(r"[Mm]issing mandatory value: (\S+)", message):
        return f"{match[1]} is not set; give {match[1]}=VALUE (see --help)"
    return _shortened(message, given)


def _meant(name: str, word: str, given: Sequence[str]) -> str:
    """A word alone may be an option, the folder of a run, or films."""
    files = CONFIG_DIR.glob(f"*/{glob.escape(word)}.yaml")
    options = sorted(f"{path.relative_to(CONFIG_DIR).parts[0]}={word}" for path in files)
    if not options and name == "predict" and Path(word).exists() and any(a.startswith("run_dir=") for a in given):
        options = [f"input={word}"]
    elif not options and Path(word).is_dir():
        options = [f"run_dir={word}"]
    return f"; did you mean {' or '.join(options)}?" if options else ""


def _shortened(message: str, given: Sequence[str]) -> str:
    """Rarer messages in one line."""
    if _NO_NAME in message:
        groups = ["", *config_groups()]
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


def _short(options: Sequence[str]) -> list[str]:
    """Options, of those in a folder only the folder and how many there are."""
    counts = Counter(o.partition("/")[0] for o in options if "/" in o)
    return [*(o for o in options if "/" not in o), *(f"{place}/... ({count})" for place, count in counts.items())]


def _explain_key(name: str, key: str, given: Sequence[str]) -> str:
    """Nearest names of a key that does not exist; in a group with options, the keys of the chosen one."""
    if key.startswith("hydra.launcher."):
        return _explain_launcher_key(key, given)
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


def _explain_launcher_key(key: str, given: Sequence[str]) -> str:
    """Nearest names of a key that the chosen launcher does not have."""
    import yaml

    chosen = next((a.partition("=")[2] for a in reversed(given) if a.startswith("hydra/launcher=")), "devices")
    file = CONFIG_DIR / _LAUNCHERS / f"{chosen}.yaml"
    names = (
        [str(n) for n in yaml.safe_load(file.read_text(encoding="utf-8")) if n != "_target_"] if file.is_file() else []
    )
    near = difflib.get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.5)
    offer = f"; did you mean hydra.launcher.{near[0]}?" if near else ""
    return f"unknown key {key}{offer} (hydra/launcher={chosen} has {', '.join(names)})"


def known_keys(name: str, given: Sequence[str] = ()) -> list[str]:
    """Dotted keys and groups of a command's configuration, with the options that its arguments choose."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    groups = config_groups()
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


def config_groups() -> list[str]:
    """Config groups: the folders of conf/."""
    return [path.name for path in CONFIG_DIR.iterdir() if path.is_dir()]


def _offer(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
