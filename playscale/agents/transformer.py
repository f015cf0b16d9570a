"""The transformer core: causal, within one game, over a sliding window. T unroll, B batch, L layers, W window, h width.

A step attends to itself and the W - 1 steps before it. Their keys and values are part of the state, so that stepping
one at a time equals a whole unroll. Keys are stored unrotated and rotated by their position in the window, so that
positions stay small however long the game.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playscale.agents.layers import rotary_angles, rotate

State = dict[str, Tensor]
MLP = 4  # the MLP's hidden width, in widths


class TransformerCore(nn.Module):
    """Pre-norm blocks (as in GPT-2, but with rotary positions) and a final norm."""

    def __init__(self, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        assert width % heads == 0, f"{heads} heads do not divide a width of {width}"
        assert (width // heads) % 2 == 0, "rotary embeddings rotate pairs"
        self.heads, self.head_dim, self.past = heads, width // heads, context - 1
        self.blocks = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        shape = (batch, len(self.blocks), self.past, self.heads, self.head_dim)
        return {
            "keys": torch.zeros(shape, device=device),
            "values": torch.zeros(shape, device=device),
            "valid": torch.zeros(batch, self.past, dtype=torch.bool, device=device),
        }

    def forward(
        self, x: Tensor, done: Tensor, state: State, resets: Sequence[int] | None = None
    ) -> tuple[Tensor, State]:
        """Map x [T, B, h], done [T, B] and state [B, ...] to outputs [T, B, h] and the detached state after them.

        Resets are in the mask; `resets`, which the LSTM needs, is ignored.
        """
        del resets
        game = F.pad(done.t().cumsum(1), (self.past, 0))  # [B, W - 1 + T]; the state belongs to game 0
        exists = F.pad(state["valid"], (0, len(x)), value=True)
        mask = self.mask(game, exists)
        angles = rotary_angles(torch.arange(self.past + len(x), device=x.device), self.head_dim)
        y, keys, values = x.transpose(0, 1), [], []
        for i, block in enumerate(self.blocks):
            y, key, value = block(y, state["keys"][:, i], state["values"][:, i], mask, angles)
            keys.append(key[:, len(x) :].detach().float())
            values.append(value[:, len(x) :].detach().float())
        valid = (exists & (game == game[:, -1:]))[:, len(x) :]
        after = {"keys": torch.stack(keys, 1), "values": torch.stack(values, 1), "valid": valid}
        return self.norm(y).transpose(0, 1), after

    def mask(self, game: Tensor, exists: Tensor) -> Tensor:
        """Return which steps each step attends to, [B, 1, T, W - 1 + T]: itself or earlier, in window and game."""
        position = torch.arange(game.shape[1], device=game.device)
        query = position[self.past :, None]
        near = (position <= query) & (position >= query - self.past)
        same = game[:, self.past :, None] == game[:, None]
        return (near & same & exists[:, None])[:, None]


class Block(nn.Module):
    """Attention and an MLP, each applied to the normalised input and added to it."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, MLP * width), nn.Linear(MLP * width, width)
        for layer in (self.qkv, self.merge, self.up, self.down):
            # Additions to the residual stream are divided by sqrt(2 L): its variance does not depend on depth (GPT-2).
            gain = (2 * layers) ** -0.5 if layer in (self.merge, self.down) else 1.0
            nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor, angles: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map x [B, T, h], past keys and values [B, W - 1, heads, d] to x after the block and all keys and values."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).unbind(2)  # [B, T, heads, d]
        k, v = torch.cat((past_key.to(k.dtype), k), 1), torch.cat((past_value.to(v.dtype), v), 1)
        cos, sin = angles
        new = x.shape[1]
        attended = F.scaled_dot_product_attention(
            rotate(q.transpose(1, 2), cos[-new:], sin[-new:]),
            rotate(k.transpose(1, 2), cos, sin),
            v.transpose(1, 2),
            attn_mask=mask,
        )
        x = x + self.merge(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)))), k, v


def transformer_params(width: int, layers: int) -> int:
    """Return the number of parameters: per block 12 h^2 weights, 13 h of biases and norms; in the final norm 2 h."""
    return layers * ((4 + 2 * MLP) * width * width + (9 + MLP) * width) + 2 * width


def transformer_flops(width: int, layers: int, context: int) -> int:
    """Return the forward FLOPs of one step of one sample: the weights, and the attention of a query to a full window.

    A dense kernel also spends 4 h (T - 1) per layer and step of an unroll on what is masked; that is not counted.
    """
    return layers * (2 * (4 + 2 * MLP) * width * width + 4 * context * width)
