"""What the running command was asked for: its configuration as plain values, keys that were given, options by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pneumolit.hydra_errors import config_groups
from pneumolit.rundir import fingerprint

OUR_VARIABLES = "PNEUMOLIT_"  # other variables could be secrets, and a run's record shows resolved values
_OF_THE_COMMAND = ("run_dir", "resume", "sweep")  # keys of `train` that are not the run's


def plain_config(cfg: Any) -> dict[str, Any]:
    """A composed configuration as plain, resolved values.

    Args:
        cfg: a DictConfig; HydraConfig is that of the same composition.

    Raises:
        ValueError: a foreign environment variable is read, or a group was given several options.
        OmegaConfBaseException: a value is missing or cannot be resolved.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    _refuse_foreign_variables(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    _refuse_several_options(HydraConfig.get().overrides.task)
    return {str(k): v for k, v in plain.items()}


def expand_run(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The run that a `train` configuration describes: without keys of the command, its stages written out.

    Raises:
        ValueError: stages that say nothing clear, a given key that every stage overrides, or a lesson, which is no run.
    """
    from pneumolit.stage_plan import expand_stages, refuse_unused

    if "lesson" in cfg:
        raise ValueError(
            "a lesson runs by itself and can be neither swept nor searched; start it by python -m pneumolit.train "
            "experiment=lesson/NAME, without --multirun"
        )

    asked = expand_stages({k: v for k, v in cfg.items() if k not in _OF_THE_COMMAND}, load_option)
    refuse_unused(asked, given_keys())
    return asked


def register_resolvers() -> None:
    """Let configurations name the folder of a sweep or a search, and the metric that chooses.

    Of the variables of the environment, `${oc.env:NAME}` gives ours alone, wherever it stands and however written.
    `${sweep_name:NAME,OVERRIDES}` is a hash where there is no name, `${search_name:NAME,OPTION}` the option's name,
    `${choosing_metric:HOLDOUT_FRACTION}` the AUROC of the block where one is set aside, else of plain validation.
    """
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("oc.env", _our_variable, replace=True)
    OmegaConf.register_new_resolver("sweep_name", _sweep_name, replace=True)
    OmegaConf.register_new_resolver("search_name", _search_name, replace=True)
    OmegaConf.register_new_resolver("choosing_metric", _choosing_metric, replace=True)


def _our_variable(name: str, *default: Any) -> Any:
    """In place of OmegaConf's own: quotes or a nested interpolation could hide a name from whoever reads the text."""
    from omegaconf.resolvers import oc

    if not str(name).startswith(OUR_VARIABLES):
        raise ValueError(f"only variables that begin with {OUR_VARIABLES} may be read, not {name}")
    return oc.env(name, *default)


def _sweep_name(name: str | None, overrides: Sequence[str]) -> str:
    """The name, else a hash of what was asked for, in whatever order; how to go on is no part of it."""
    asked = sorted(str(o) for o in overrides if not str(o).lstrip("+~").startswith("sweep."))
    return str(name) if name is not None else fingerprint(asked)


def _search_name(name: Any, option: Any) -> str:
    """The name, else that of the option; an option may lie in a folder."""
    return str(option if name is None else name).replace("/", "_")


def _choosing_metric(holdout_fraction: float) -> str:
    """A block foretells another block better than plain or stress validation does: docs/log.md, 2026-11-28."""
    return "block/auroc" if holdout_fraction else "val/auroc"


def given_keys() -> list[str]:
    """Keys and groups that the command line of the running command sets, without values."""
    from hydra.core.hydra_config import HydraConfig

    return [override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]


def is_multirun() -> bool:
    """Whether the running command is one job of several."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


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


def compose_choices(overrides: Sequence[str], name: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration composed anew, and the option of every group.

    Args:
        overrides: of groups and keys.
        name: of the command; None: the running one, whose command line holds too.
    """
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    given = list(HydraConfig.get().overrides.task) if name is None else []
    own = name or HydraConfig.get().job.config_name
    cfg = compose(own, overrides=[*given, *overrides], return_hydra_config=True)
    choices = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    with open_dict(cfg):
        del cfg["hydra"]
    content = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}, choices


def load_option(group: str, option: str) -> dict[str, Any]:
    """The keys of an option of a group as the running command finds it, in folders of the user too."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    cfg = compose(HydraConfig.get().job.config_name, overrides=[f"{group}={option}"])
    content = OmegaConf.to_container(cfg[group], resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _refuse_foreign_variables(cfg: Any) -> None:
    from omegaconf import OmegaConf

    for name in re.findall(r"oc\.env:[\s'\"\\]*([A-Za-z_]\w*)", OmegaConf.to_yaml(cfg)):
        if not name.startswith(OUR_VARIABLES):
            raise ValueError(
                f"the configuration reads the environment variable {name}; only variables that begin with "
                f"{OUR_VARIABLES} may be read, since a run's record shows what it was told"
            )


def _refuse_several_options(overrides: Sequence[str]) -> None:
    """Hydra would merge optim=[adam,sgd] into an option that nobody wrote; recipes alone are made to be combined."""
    for override in overrides:
        group, _, names = override.partition("=")
        if group in config_groups() and group != "experiment" and names.startswith("["):
            # Ready sweeps and searches are started one after the other.
            each = f", or --multirun {group}={names.strip('[]')} for a run each"
            raise ValueError(
                f"{override} names several options; give one{each if group not in ('sweep', 'search') else ''}"
            )
