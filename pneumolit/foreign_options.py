"""Options and primary files from somebody else make Hydra run nothing that they name, and write nowhere else."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pneumolit.config import CONFIG_DIR

# Hydra calls what these nodes name before a command begins, so that a folder of options from somebody else could.
_CALLED_BY_HYDRA = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
_HANDLERS = ("logging.StreamHandler", "logging.NullHandler", "logging.FileHandler")
_PLACES = ("run.dir", "sweep.dir", "sweep.subdir", "output_subdir", "job.name")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"


@contextlib.contextmanager
def foreign_code_refused() -> Iterator[None]:
    """Within, a configuration that would have Hydra itself import, call or write what it names is refused.

    Raises:
        ValueError: when it is composed; names the key.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import OmegaConf

    original = ConfigLoaderImpl.load_configuration

    def checked(*args: Any, **kwargs: Any) -> Any:
        cfg = original(*args, **kwargs)
        settings = OmegaConf.to_container(cfg.hydra, resolve=False)
        assert isinstance(settings, dict)
        _refuse_foreign_code(settings)
        _refuse_foreign_places(settings)
        return cfg

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def _refuse_foreign_code(settings: Mapping[Any, Any]) -> None:
    for name in _CALLED_BY_HYDRA:
        for key, value in _leaves(settings.get(name), f"hydra.{name}"):
            if not _is_harmless(key, value):
                raise ValueError(
                    f"{key}={value} is refused: Hydra would call what it names before the command begins, and options "
                    "may come from somebody else; leave it out"
                )
    given = [override.lstrip("+~") for override in settings["overrides"]["hydra"]]
    for variable in settings["job"]["env_set"]:
        if not any(override.startswith("hydra.job.env_set") for override in given):
            raise ValueError(
                f"hydra.job.env_set.{variable} in a file is refused: variables such as LD_PRELOAD run code; set it in "
                "the shell, or on the command line"
            )


def _refuse_foreign_places(settings: Mapping[Any, Any]) -> None:
    """Where Hydra makes folders and files is said by this project or on the command line, not by an option."""
    given = [override.lstrip("+~").partition("=")[0] for override in settings["overrides"]["hydra"]]
    shipped = _shipped_settings()
    for place in _PLACES:
        value, key = _inner(settings, place), f"hydra.{place}"
        is_ours = value in [_inner(one, place) for one in shipped]
        is_name = place == "job.name" and re.fullmatch(r"[\w.-]+", str(value))  # of a file in that folder
        if not (is_ours or is_name or key in given):
            raise ValueError(
                f"{key}={value} in a file is refused: Hydra would write there, and an option may be somebody else's; "
                "give it on the command line"
            )


@functools.cache
def _shipped_settings() -> list[dict[str, Any]]:
    """What the primary files of this project say of Hydra: one of the user's own may build on any of them."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contents = [yaml.load(file.read_text(encoding="utf-8"), Loader=loader) for file in CONFIG_DIR.glob("*.yaml")]
    return [content.get("hydra", content) for content in contents]


def _inner(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping | list):
        for name, inner in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from _leaves(inner, f"{key}.{name}")
    elif node is not None:
        yield key, node


def _is_harmless(key: str, value: Any) -> bool:
    """Whether a value below a node that Hydra hands to its plugins or to `logging` names no foreign code or file."""
    node, leaf, text = key.split(".")[1], key.rpartition(".")[2], str(value)
    is_logging = node.endswith("_logging")
    if node == "callbacks" or leaf == "()" or re.search(r"\$\{(?!hydra\.)", text):
        return False
    if leaf == "_target_":
        return key in ("hydra.launcher._target_", "hydra.sweeper._target_") and text.startswith(_PLUGINS)
    if is_logging and leaf == "class":
        return text in _HANDLERS
    if is_logging and leaf == "filename":
        return text == _LOG_FILE
    return not (is_logging and text.startswith("ext://")) or text in ("ext://sys.stdout", "ext://sys.stderr")
