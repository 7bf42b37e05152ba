"""Faster ways to the gradients that PyTorch is slow with on a CPU: which there are, and how a model takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

from pneumolit.model.depthwise import route_depthwise
from pneumolit.model.pooling import route_pooling

ROUTES: dict[str, Callable[[nn.Module], list[str]]] = {"depthwise": route_depthwise, "pooling": route_pooling}
ROUTES_VERSION = 2  # raise it whenever a route changes the bits of a gradient: a run is resumed with its own


def use_fast_gradients(backbone: nn.Module, routes: Collection[str]) -> list[str]:
    """Let the layers of a model take faster ways to their gradients; weights and names stay as they are.

    Args:
        backbone: changed in place.
        routes: names out of `ROUTES`.

    Returns:
        Names of the layers that take them.
    """
    return [layer for name, route in ROUTES.items() if name in routes for layer in route(backbone)]
