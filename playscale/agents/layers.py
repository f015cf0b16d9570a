"""Torch blocks shared by encoders and cores, with their cost.

Shapes: N samples, C channels, H rows, W columns. FLOPs count one forward pass; a multiply-add is 2. Only matrix
products, convolutions and attention are counted (as torch's FlopCounterMode does): lookups, norms, biases and
activations cost 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _WithoutInitialValues(TorchFunctionMode):
    """Lets the functions of torch.nn.init return their tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def on_meta() -> Iterator[None]:
    """Let modules made inside be on the meta device, where weights have a shape and take no memory.

    They get no initial values, which there is nothing to write to: for those of an embedding, torch imports its
    compiler (2 s of processor time).
    """
    with torch.device("meta"), _WithoutInitialValues():
        yield


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Return the rows of `table` [V, C] at `index` [...], as [..., C].

    The gradient of an embedding over 430,000 map cells (T=32, B=8) takes 27 ms on a CPU core, that of index_select 5
    (with an int64 index: 20 with an int32 one); on a GPU it is the reverse: most cells are the same blank, and the
    atomic additions of index_add collide on one row.
    """
    if table.device.type == "cpu":
        return table.index_select(0, index.reshape(-1)).view(*index.shape, table.shape[1])
    return F.embedding(index, table)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def linear_flops(layer: nn.Linear, rows: int = 1) -> int:
    return 2 * layer.in_features * layer.out_features * rows


def conv_flops(layer: nn.Conv2d, positions: int) -> int:
    """Return the FLOPs of a convolution with `positions` output positions (H x W)."""
    return 2 * math.prod(layer.weight.shape) * positions


def he_init(layer: nn.Linear | nn.Conv2d, gain: float = math.sqrt(2)) -> None:
    """Draw normal weights of variance gain^2 / fan-in, and zero the bias (He et al., arXiv 1502.01852, eq. 10)."""
    fan_in = math.prod(layer.weight.shape[1:])
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip, without batch norm: x + conv(relu(conv(relu(x)))).

    Batch norm would couple a sample with the others of its unroll, which come from one game. The last convolution is
    zero at first, so that a deep stack starts as the identity (Zhang et al., arXiv 1901.09321).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        he_init(self.first)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))

    def flops(self, positions: int) -> int:
        return conv_flops(self.first, positions) + conv_flops(self.second, positions)


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return cos and sin [P, head_dim / 2] of rotary positions, base 10,000 (Su et al., arXiv 2104.09864, eq. 15)."""
    frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2, device=positions.device) / head_dim)
    angles = positions.float()[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the two halves of each head of `x` [..., P, head_dim] by the angles of its position; the dtype stays."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)
