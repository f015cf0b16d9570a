"""The paper's released LSTM policy, layer for layer, out of layers written for speed.

The same function as `il_scale/nethack/v1/net.py` of princeton-nlp/il-scaling-in-games computes in training (il_mode,
with crop and previous action): with its weights (`load_peer`) the logits, the loss and every gradient are equal to
within rounding, which benchmarks/train.py checks before it times anything. A difference in speed is one of
implementation. Ours (docs/agents.md) is another network; this one lives here only to be timed.

Shapes: N = T * B samples, C channels, H rows, W columns; convolutions run channels-last.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playscale.agents.layers import lookup
from playscale.agents.lstm import LstmCore, State
from playscale.agents.policy import PolicyOutput

CHARS, COLORS = (
    256,
    32,
)  # the peer's colour table has 128 rows; recorded terminals use 24 (16 and 8 more in inverse video)
BLANK = 32 * COLORS  # a space of colour 0
ACTIONS = 121
EMBEDDING = 16
MAP_ROWS, MAP_COLUMNS = 21, 80
CROP = 9
CROP_BEFORE, CROP_AFTER = 5, 3  # the peer's window of 9 goes from 5 before the cursor to 3 after it
CHANNELS = (16, 32, 32)


@dataclass(frozen=True)
class Shape:
    """A size of the peer's network: width of FC layers and LSTM, fully connected layers behind the map."""

    width: int
    screen_layers: int = 2
    message: int = 64

    @property
    def peer(self) -> dict[str, object]:
        """Return the arguments of the peer's constructor."""
        return {
            "num_actions": ACTIONS,
            "h_dim": self.width,
            "msg_hdim": self.message,
            "num_screen_fc_layers": self.screen_layers,
            "use_lstm": True,
            "use_crop": True,
            "use_prev_action": True,
            "il_mode": True,
        }


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers, each followed by an ELU."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ELU(inplace=True)]
    return nn.Sequential(*layers)


class MessageMlp(nn.Module):
    """A one-hot of 80 x 256 into an MLP. The first layer is the sum of 80 rows of its weight, kept as rows."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(80 * CHARS, out) * (80 * CHARS) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(out))
        self.rest = mlp(out, out)

    def forward(self, line: Tensor) -> Tensor:
        """Map characters [N, 80] to [N, out]."""
        index = line.long() + torch.arange(0, 80 * CHARS, CHARS, device=line.device)
        return self.rest(F.elu(lookup(self.rows, index).sum(1) + self.bias))


class StatusMlp(nn.Module):
    """Two lines as two channels (code, digit) of a row of 160, through two convolutions and an MLP."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(2, 32, (1, 8), stride=(1, 4)), nn.ELU(inplace=True), nn.Conv2d(32, 64, (1, 4)), nn.ELU()
        )
        self.rest = mlp(64 * 36, out, out)

    def forward(self, lines: Tensor) -> Tensor:
        """Map characters [N, 2, 80] to [N, out]."""
        code = lines.flatten(1).float()
        digit = ((code > 44) & (code < 58)) * (code - 47) / 10
        x = torch.stack(((code - 32) / 96, digit), 2)[:, None]  # [N, 1, 160, 2]: channels last
        return self.rest(self.convs(x.permute(0, 3, 1, 2)).flatten(1))


class Residual(nn.Module):
    """x + two times (convolution, batch norm, ELU)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(channels), nn.ELU(inplace=True)]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + x


class MapNet(nn.Module):
    """Three stages of convolution, max-pool 3/2 and two residual blocks, then an MLP. The first is a table lookup."""

    def __init__(self, layers: int, out: int) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.first = nn.Conv2d(2 * EMBEDDING, first, 3, padding=1)
        stages: list[nn.Module] = [nn.MaxPool2d(3, 2), Residual(first), Residual(first)]
        for before, after in ((first, second), (second, third)):
            stages += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(3, 2), Residual(after), Residual(after)]
        self.stages = nn.Sequential(*stages)
        self.rest = mlp(third * 9, *[out] * layers)

    def forward(self, cells: Tensor, table: Tensor) -> Tensor:
        """Map cells [N, 21, 80] (rows of the table [V, 32]) to [N, out]."""
        x = conv_of_lookup(cells, table, self.first.weight, self.first.bias)
        return self.rest(self.stages(x).flatten(1))


class CropNet(nn.Module):
    """Five 3x3 convolutions over the 9 x 9 cells around the cursor."""

    def __init__(self) -> None:
        super().__init__()
        channels = (2 * EMBEDDING, 16, 16, 16, 16, 8)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ELU(inplace=True)]
        self.convs = nn.Sequential(*layers)

    def forward(self, cells: Tensor, table: Tensor) -> Tensor:
        """Map cells [N, 9, 9] (rows of the table) to [N, 648]."""
        return self.convs(lookup(table, cells).permute(0, 3, 1, 2)).flatten(1)


class Twin(nn.Module):
    """The network. `forward` has the signature of playscale's Policy, so that the same training step drives it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        h = shape.width
        self.char = nn.Parameter(torch.randn(CHARS, EMBEDDING))
        self.color = nn.Parameter(torch.randn(COLORS, EMBEDDING))
        self.message = MessageMlp(shape.message)
        self.status = StatusMlp(h // 4)
        self.map = MapNet(shape.screen_layers, h)
        self.crop = CropNet()
        features = shape.message + h // 4 + h + ACTIONS + 8 * CROP * CROP
        self.fc = nn.Sequential(nn.Linear(features, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.core = LstmCore(h, 1)
        self.head = nn.Linear(h, ACTIONS)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def initial_state(self, batch: int) -> State:
        return self.core.initial_state(batch, self.head.weight.device)

    def forward(self, batch: Mapping[str, Tensor], state: State, resets: Sequence[int] | None = None) -> PolicyOutput:
        done = batch["done"]
        chars = batch["tty_chars"].flatten(0, 1)
        rows = slice(1, 1 + MAP_ROWS)
        colors = batch["tty_colors"].flatten(0, 1)[:, rows].int() & (COLORS - 1)
        cells = chars[:, rows].int() * COLORS + colors
        table = self.table()
        x = torch.cat(
            (
                self.message(chars[:, 0]),
                self.status(chars[:, 22:]),
                self.map(cells, table),
                F.one_hot(batch["prev_action"].flatten(), ACTIONS),
                self.crop(crop(cells, batch["tty_cursor"].flatten(0, 1).int()), table),
            ),
            1,
        )
        y, state = self.core(self.fc(x).unflatten(0, done.shape), done, state, resets)
        return PolicyOutput(self.head(y), None, state)

    def table(self) -> Tensor:
        """Return [CHARS * COLORS, 32], a row for each pair of character and colour."""
        chars = self.char.repeat_interleave(COLORS, 0)
        return torch.cat((chars, self.color.repeat(CHARS, 1)), 1)

    @torch.no_grad()
    def load_peer(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of the peer's state_dict."""
        own = dict(self.state_dict(keep_vars=True))
        for name, value in renamed(weights).items():
            own.pop(name).copy_(value)
        assert not own, f"weights the peer has not: {', '.join(own)}"


def crop(cells: Tensor, cursor: Tensor) -> Tensor:
    """Return the 9 x 9 cells of [N, 21, 80] from 5 before to 3 after the cursor (row, column) [N, 2]; beyond it 0."""
    wide = MAP_COLUMNS + CROP_BEFORE + CROP_AFTER
    padded = F.pad(cells, (CROP_BEFORE, CROP_AFTER, CROP_BEFORE + 1, CROP_AFTER + 2)).flatten(1)
    corner = cursor[:, 0] * wide + cursor[:, 1]  # the row padded above stands for the message's
    nine = torch.arange(CROP, device=cells.device)
    offsets = (nine[:, None] * wide + nine).flatten()
    return padded.gather(1, corner[:, None] + offsets).view(-1, CROP, CROP).long()


def conv_of_lookup(cells: Tensor, table: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the 3x3 convolution (padded by 1) of the looked up cells [N, H, W]: [N, C, H, W], channels-last.

    A convolution of looked up rows is the sum of 9 looked up rows: row v of tap k is table[v] @ weight[k]. On a CPU
    that costs the table's product once instead of 15 MFLOP a sample, forward and twice backward.
    """
    if cells.device.type != "cpu":
        x = lookup(table, cells.long())
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1)
    assert bias is not None
    C = len(weight)
    taps = table @ weight.permute(1, 2, 3, 0).reshape(table.shape[1], 9 * C) + F.pad(bias, (4 * C, 4 * C))
    return SumOfTaps.apply(cells, F.pad(taps, (0, 0, 0, 1))).permute(0, 3, 1, 2)  # the last row: beyond the edge


class SumOfTaps(torch.autograd.Function):
    """Cells [N, H, W], taps [V + 1, 9 * C]: [N, H, W, C], at each place the sum of the 3 x 3 cells' taps."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, taps: Tensor) -> Tensor:
        N, H, W = cells.shape
        padded = F.pad(cells, (1, 1, 1, 1), value=len(taps) - 1) * 9
        index = torch.stack([padded[:, k // 3 :, k % 3 :][:, :H, :W] + k for k in range(9)], 3)
        ctx.save_for_backward(cells)
        ctx.rows = len(taps)
        return F.embedding_bag(index.view(-1, 9), taps.view(len(taps) * 9, -1), mode="sum").view(N, H, W, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        """Most cells are the same blank: its row is the sum over all cells, less that over the others."""
        (cells,) = ctx.saved_tensors
        _, H, W, C = grad.shape
        flat = cells.flatten().long()
        place = (flat != BLANK).nonzero().flatten()
        wide = W + 2
        corner = (place // (H * W)) * ((H + 2) * wide) + (place % (H * W)) // W * wide + place % W
        padded = F.pad(grad, (0, 0, 1, 1, 1, 1))
        rows = padded.as_strided((padded.numel() // C - 2, 3 * C), (C, 1))  # three neighbours lie side by side
        out = grad.new_zeros(3, ctx.rows, 3 * C)
        for dy in range(3):
            out[2 - dy].index_add_(0, flat[place], rows.index_select(0, corner + dy * wide))
        total = padded.sum(0)
        every = torch.stack([total[2 - k // 3 :, 2 - k % 3 :][:H, :W].sum((0, 1)) for k in range(9)])
        taps = out.view(3, ctx.rows, 3, C).flip(2).permute(1, 0, 2, 3).reshape(ctx.rows, 9 * C)
        taps[BLANK] = every.flatten() - taps.sum(0)
        return None, taps


PEER_PARTS = (
    ("topline_encoder.msg_fwd.0.weight", "message.rows"),
    ("topline_encoder.msg_fwd.0.bias", "message.bias"),
    ("topline_encoder.msg_fwd.2.", "message.rest.0."),
    ("bottomline_encoder.conv_net.", "status.convs."),
    ("bottomline_encoder.fwd_net.", "status.rest."),
    ("screen_encoder.char_embeddings.weight", "char"),
    ("screen_encoder.color_embeddings.weight", "color"),
    ("screen_encoder.fc_head.", "map.rest."),
    ("extract_crop_representation.", "crop.convs."),
    ("core.", "core.lstm."),
    ("policy.", "head."),
    ("fc.", "fc."),
)
"""The peer's names and ours; the map's stages are in `stage_name`. Its other weights take no part in imitation."""


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the peer's weights (or their gradients) by our names, in our layouts."""
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith("screen_encoder.conv_net."):
            out[stage_name(name.removeprefix("screen_encoder.conv_net."))] = value
            continue
        for theirs, ours in PEER_PARTS:
            if name.startswith(theirs):
                own = ours + name.removeprefix(theirs)
                out[own] = value[:, :, None] if own.startswith("status.convs.") and value.ndim == 3 else value
                break
    out["message.rows"] = out["message.rows"].t()
    out["color"] = out["color"][:COLORS]
    return out


def stage_name(name: str) -> str:
    """Return our `map.` name of the peer's `stage.layer.rest`: our stages are one list after the first layer."""
    stage, layer, rest = name.split(".", 2)
    place = 4 * int(stage) + int(layer)
    return f"map.first.{rest}" if place == 0 else f"map.stages.{place - 1}.{rest}"
