"""Which backbones there are, without building one: native size, where weights lie, licence."""

from __future__ import annotations

import difflib
import fnmatch
from typing import NamedTuple

from pneumolit.model.backbone import BackboneSpec
from pneumolit.model.small_nets import register_small_nets
from pneumolit.model.weights import weights_at_hand


class Backbone(NamedTuple):
    """One line of the catalogue.

    Attributes:
        name: what `backbone=` takes, with the tag of its weights.
        native_size: side in pixels of the images that the weights were made with.
        is_fixed_size: whether the model is built for one image size; position tables of weights are then resampled.
        weights: `package`, `cache` (on this machine), `hub` (to be downloaded) or `none` (there are none).
        license: of the weights, "" where timm does not say.
    """

    name: str
    native_size: int
    is_fixed_size: bool
    weights: str
    license: str


def list_backbones(pattern: str = "*") -> list[Backbone]:
    """Backbones whose name matches, those without weights last; nothing is built and no network is asked.

    Args:
        pattern: with `*`, `?` or `[...]` a glob over the whole name or the name without its tag; else a part of it.

    Raises:
        ValueError: nothing matches; the nearest names are offered.
    """
    import timm

    register_small_nets()
    is_glob = any(sign in pattern for sign in "*?[")
    wanted = pattern.lower() if is_glob else f"*{pattern.lower()}*"
    pretrained = timm.list_models(pretrained=True)
    with_weights = {name.partition(".")[0] for name in pretrained}
    names = pretrained + [name for name in timm.list_models() if name not in with_weights]
    found = [n for n in names if any(fnmatch.fnmatchcase(m.lower(), wanted) for m in (n, n.partition(".")[0]))]
    if not found:
        word = pattern.strip("*?").lower()
        near = difflib.get_close_matches(word, [*timm.list_models(), *pretrained], n=5, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "pattern='*' lists them all"
        raise ValueError(f"pattern={pattern} matches none of {len(names)} backbones; {hint}")
    return [_look_up(name, has_weights=name.partition(".")[0] in with_weights) for name in found]


def _look_up(name: str, *, has_weights: bool) -> Backbone:
    import timm

    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None, f"{name} is registered without a configuration"
    spec = BackboneSpec(name, cfg, has_weights=has_weights)
    weights = (weights_at_hand(name, cfg) or "hub") if has_weights else "none"
    return Backbone(name, spec.native_size, spec.is_fixed_size, weights, cfg.license or "")
