"""Options and primary files from somebody else make Hydra run nothing that they name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Hydra calls what these nodes name before a command begins, so that a folder of options from somebody else could.
_CALLED_BY_HYDRA = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
_HANDLERS = ("logging.StreamHandler", "logging.NullHandler", "logging.FileHandler")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"


@contextlib.contextmanager
def foreign_code_refused() -> Iterator[None]:
    """Within, a configuration that would have Hydra itself import, call or write what it names is refused.

    Raises:
        ValueError: when it is composed; names the key.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    original = ConfigLoaderImpl.load_configuration

    def checked(*args: Any, **kwargs: Any) -> Any:
        cfg = original(*args, **kwargs)
        _refuse_foreign_code(cfg)
        return cfg

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = original  # type: ignore[method-assign]


def _refuse_foreign_code(cfg: Any) -> None:
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(cfg.hydra, resolve=False)
    assert isinstance(settings, dict)
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
