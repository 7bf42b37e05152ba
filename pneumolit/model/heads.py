"""Heads of our own on a timm backbone, and its pooling by name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

HEADS = ("linear", "mlp")
POOLS = ("default", "avg", "max", "flatten")
# What a model of timm raises that was asked for something it cannot do.
BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class HeadedBackbone(nn.Module):
    """A timm backbone without classifier, and a head of ours on its pooled or flattened features.

    It offers what the rest of the project asks of a timm model.

    Args:
        body: a timm model whose classifier was taken out (`reset_classifier(0)`).
        head: from features `(B, num_features)` to logits `(B, K)`.
        is_flat: whether the head sees the flattened map or tokens instead of the body's pooled features.
        num_classes: logits K.
        num_features: width of what the head sees.
        old_classifier: a parameter's name in the classifier taken out; it tells `group_matcher` where the head was.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        *,
        is_flat: bool,
        num_classes: int,
        num_features: int,
        old_classifier: str,
    ) -> None:
        super().__init__()
        self.body: Any = body
        self.head = head
        self.is_flat = is_flat
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features
        self._old_classifier = old_classifier

    def get_classifier(self) -> nn.Module:
        """The whole head, hidden layer included."""
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> the body's last map or tokens."""
        features: Tensor = self.body.forward_features(x)
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map or tokens -> logits `(B, K)`, or with `pre_logits` what the head sees."""
        x = x.flatten(1) if self.is_flat else self.body.forward_head(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` -> `(B, K)`."""
        return self.forward_head(self.forward_features(x))

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Depth of a parameter or module by its name, for `timm.models.group_parameters`.

        The groups are the body's own; the head stands where the classifier stood, together with what the body
        leaves over there (last norms).
        """
        from timm.models._manipulate import group_with_matcher

        names = [name for name, _ in self.body.named_parameters()]
        probed = ((name, name) for name in [*names, self._old_classifier])
        depth: dict[str, int] = group_with_matcher(probed, _matcher_of(self.body, coarse), reverse=True)
        last = depth[self._old_classifier]

        def depth_of(name: str) -> int:
            part, _, inside = name.partition(".")
            if part != "body":
                return last
            # A module lies where the first parameter of its own lies.
            return depth[inside] if inside in depth else next(depth[n] for n in names if n.rpartition(".")[0] == inside)

        return depth_of


def add_head(
    model: nn.Module, image: Tensor, *, head: str, hidden: int, drop_rate: float, pool: str, num_classes: int
) -> HeadedBackbone:
    """Take the classifier out of a timm model and put a head of ours in its place.

    Parameters that nothing uses any more go too (VGG keeps 119 million behind its map): an optimizer would still
    hold state for them, and counts would lie.

    Args:
        model: a timm model with a classifier.
        image: `(1, C, S, S)`, any values.
        head: `linear` (dropout, one layer) or `mlp` (hidden layer, ReLU, dropout, one layer).
        hidden: width of the hidden layer.
        drop_rate: dropout before the last layer.
        pool: `flatten` for the last map or the tokens as they are; else what `set_pool` was told.
        num_classes: logits K.

    Raises:
        ValueError: the model has no single map, or no pooled features `(B, C)`.
    """
    old_classifier = _a_name_in_the_classifier(model)
    is_flat = pool == "flatten"
    model.reset_classifier(0)  # type: ignore[operator]
    features = _keep_what_features_need(model, image, is_flat=is_flat)
    return HeadedBackbone(
        model,
        _mlp(features, hidden, num_classes, drop_rate)
        if head == "mlp"
        else nn.Sequential(nn.Dropout(drop_rate), nn.Linear(features, num_classes)),
        is_flat=is_flat,
        num_classes=num_classes,
        num_features=features,
        old_classifier=old_classifier,
    )


def set_pool(model: nn.Module, pool: str, image: Tensor, *, num_classes: int) -> None:
    """Change how a timm model pools its last map, after its weights are loaded; names of parameters stay.

    Built with another pooling, a vision transformer would have another norm under another name than its weights.

    Args:
        model: a timm model.
        pool: `avg` or `max`.
        image: `(1, C, S, S)`, any values.
        num_classes: logits K.

    Raises:
        ValueError: the model pools in its own way.
    """
    before = model.state_dict()
    try:
        model.reset_classifier(num_classes, pool)  # type: ignore[operator]
        with in_eval_mode(model), torch.no_grad():
            is_sound = model(image).shape == (1, num_classes)
    except BUILD_ERRORS:
        is_sound = False
    if not is_sound:
        raise ValueError(f"{type(model).__name__} pools in its own way and takes no model.pool={pool}; {_POOL_ADVICE}")
    kept = {k: v for k, v in before.items() if k in (own := model.state_dict()) and own[k].shape == v.shape}
    model.load_state_dict(kept, strict=False)  # the classifier's start, which a reset draws anew


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """A fresh model in eval mode for a look, and back in training mode (which also empties attention caches)."""
    model.train().eval()
    try:
        yield
    finally:
        model.train()


_POOL_ADVICE = "use model.pool=default"


def _matcher_of(body: nn.Module, coarse: bool) -> Any:
    """timm's own matcher, or for the models that have none the top-level children in their order."""
    with contextlib.suppress(AttributeError, AssertionError):  # has none (MetaFormer), or no coarse one (RDNet)
        return body.group_matcher(coarse=coarse)  # type: ignore[operator]
    order = {name: depth for depth, (name, _) in enumerate(body.named_children())}
    return lambda name: order.get(name.partition(".")[0], 0)


def _mlp(num_features: int, hidden: int, num_classes: int, drop_rate: float) -> nn.Sequential:
    first = nn.Linear(num_features, hidden)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.Dropout(drop_rate), nn.Linear(hidden, num_classes))


def _keep_what_features_need(model: nn.Module, image: Tensor, *, is_flat: bool) -> int:
    """Width of the features that a head will see; modules that they do not need are taken out."""
    timm_model: Any = model
    with in_eval_mode(model), torch.enable_grad():
        features = timm_model.forward_features(image)
        if is_flat and not isinstance(features, Tensor):
            raise ValueError(f"{type(model).__name__} ends in several maps, not in one to flatten; {_POOL_ADVICE}")
        features = features.flatten(1) if is_flat else timm_model.forward_head(features)
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError(
                f"{type(model).__name__} gives no pooled features (B, C) that a head could use; "
                "use model.head=linear with model.pool=default"
            )
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True) if parameters else ()
    _take_out_unused(model, {id(p) for p, gradient in zip(parameters, gradients, strict=True) if gradient is None})
    return math.prod(features.shape[1:])


def _take_out_unused(module: nn.Module, unused: set[int]) -> None:
    for name, child in list(module.named_children()):
        ids = {id(p) for p in child.parameters()}
        if ids and ids <= unused:
            setattr(module, name, nn.Identity())
        elif ids & unused:
            _take_out_unused(child, unused)


def _a_name_in_the_classifier(model: nn.Module) -> str:
    heads = model.get_classifier()  # type: ignore[operator]
    heads = heads if isinstance(heads, tuple | list) else (heads,)
    ids = {id(p) for p in heads[0].parameters()}
    return next(name for name, p in model.named_parameters() if id(p) in ids)
