"""Encode NetHack's terminal as a feature vector: message, status lines, map, crop around the cursor, previous action.

Shapes: N samples. The terminal is 24 rows x 80 columns: row 0 the message, rows 1..21 the map, rows 22, 23 the status.
The map is split into 7 x 20 patches of 3 x 4 cells. docs/agents.md lists what differs from the paper's released policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playscale.agents.layers import ResidualBlock, conv_flops, count_parameters, he_init, linear_flops, lookup

CHARS = 96  # the terminal shows codes 32..126; everything else is clamped into 32..127
COLORS = 16
BLANK = 0  # index of (space, colour 0)
MAP_CELLS = 21 * 80
MANY = 32  # samples; of fewer, all cells of the map are encoded in less time than the blank ones are left out
PARTS = ("message", "status", "map", "crop", "previous action")


@dataclass(frozen=True)
class NetHackWidths:
    """Embedding sizes (text: of lines; char, color: of the map's cells), channels and features by part."""

    text: int
    text_channels: int
    message: int
    status: int
    char: int
    color: int
    map_channels: tuple[int, int, int]
    map: int
    crop_channels: int
    crop: int
    action: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "map_channels", tuple(self.map_channels))  # JSON has lists


def encoder_widths(scale: float) -> NetHackWidths:
    """Return the widths at a scale; 1 is that of a policy of a million parameters.

    Channels grow more slowly than features, since a weight of a map channel costs 140 multiply-adds and one of a
    feature 1.
    """

    def wide(at_one: float, power: float, least: int = 2) -> int:
        return friendly(max(at_one * scale**power, least))

    return NetHackWidths(
        text=wide(10, 0.4, 4),
        text_channels=wide(40, 0.65, 6),
        message=wide(64, 0.9, 6),
        status=wide(48, 0.9, 6),
        char=wide(12, 0.4, 4),
        color=wide(4, 0.3),
        map_channels=(wide(32, 0.72, 4), wide(40, 0.78, 4), wide(48, 0.84, 4)),
        map=wide(96, 1.0, 6),
        crop_channels=wide(40, 0.75, 6),
        crop=wide(80, 0.9, 6),
        action=wide(16, 0.55, 2),
    )


def friendly(width: float) -> int:
    """Round to a multiple of 2 below 8, of 4 below 32, of 8 below 192, of 32 above.

    Other widths cost more than they compute: a 3x3 convolution of 14 channels takes longer than one of 16.
    """
    step = 2 if width < 8 else 4 if width < 32 else 8 if width < 192 else 32
    return max(step, round(width / step) * step)


class TextEncoder(nn.Module):
    """Encode lines of 80 characters: windows of 8 every 4 columns, the maximum over 4 windows, then one linear layer.

    A window recognises a word ("[yn]", "--More--") at any position; five segments of 20 columns tell roughly where.
    """

    def __init__(self, rows: int, embedding: int, channels: int, out: int) -> None:
        super().__init__()
        self.rows = rows
        self.windows = nn.Conv2d(embedding, channels, (1, 8), stride=(1, 4), padding=(0, 2))
        self.out = nn.Linear(channels * rows * 5, out)
        he_init(self.windows)
        he_init(self.out)

    def forward(self, text: Tensor) -> Tensor:
        """Map embedded characters [N, rows, 80, C] to [N, out]."""
        x = self.windows(text.permute(0, 3, 1, 2))  # [N, C, rows, 20]
        return F.relu(self.out(F.max_pool2d(F.relu(x), (1, 4)).flatten(1)))

    def flops(self) -> int:
        return conv_flops(self.windows, self.rows * 20) + linear_flops(self.out)


class MapEncoder(nn.Module):
    """Encode the 21 x 80 map: one linear layer on each patch of 3 x 4 cells, then convolutions down to 2 x 5."""

    def __init__(self, cell: int, channels: tuple[int, int, int], out: int) -> None:
        super().__init__()
        first, second, third = channels
        self.patches = nn.Conv2d(12 * cell, first, 1)  # a 1x1 convolution: four times as fast as so narrow a matmul
        self.stages = nn.Sequential(
            ResidualBlock(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            ResidualBlock(second),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.out = nn.Linear(third * 10, out)
        he_init(self.patches)
        he_init(self.out)
        for layer in self.stages:
            if isinstance(layer, nn.Conv2d):
                he_init(layer)

    def forward(self, cells: Tensor, table: Tensor) -> Tensor:
        """Map cells [N, 21, 80] and the features of each kind of cell [CHARS * COLORS, cell] to [N, out]."""
        skip_blank = len(cells) >= MANY and cells.device.type == "cpu" and not torch.compiler.is_compiling()
        patches = self.drawn_patches(cells, table) if skip_blank else self.all_patches(cells, table)
        return F.relu(self.out(self.stages(patches).flatten(1)))

    def all_patches(self, cells: Tensor, table: Tensor) -> Tensor:
        """Return the linear layer's outputs [N, first, 7, 20] by looking up the features of every cell."""
        return self.patches(lookup(table, patches_of_map(cells).long()).flatten(3).permute(0, 3, 1, 2))

    def drawn_patches(self, cells: Tensor, table: Tensor) -> Tensor:
        """Return what all_patches returns, computed from the cells that are not blank, one in seven.

        A patch is the sum over its 12 places of what the cell there adds: a row of a table [CHARS * COLORS * 12,
        first], which costs as much as the layer on CHARS * COLORS patches. The blank cells add the same to every
        patch. On a CPU it takes a third of the time, with its gradient; on a GPU, which computes while the next step is
        prepared, the number of cells would have to be waited for.
        """
        kinds, width = table.shape
        places = self.patches.weight.view(-1, 12, width).permute(2, 1, 0)  # [cell, 12, first]
        rows = ((table - table[BLANK]) @ places.reshape(width, -1)).to(table.dtype).view(kinds * 12, -1)
        blank = (table[BLANK] @ places.sum(1)) + self.patches.bias  # type: ignore[operator]
        flat = cells.flatten()
        drawn = flat.nonzero().squeeze(1)
        game = drawn.div(MAP_CELLS, rounding_mode="trunc")
        position = drawn - game * MAP_CELLS
        added = rows.index_select(0, flat.index_select(0, drawn).long() * 12 + PLACE.index_select(0, position))
        index = game * 140 + PATCH.index_select(0, position)
        patches = blank.expand(len(cells) * 140, -1).scatter_add(0, index[:, None].expand_as(added), added)
        return patches.view(-1, 7, 20, len(blank)).permute(0, 3, 1, 2)

    def flops(self) -> int:
        total = conv_flops(self.patches, 140) + linear_flops(self.out)
        positions = 140
        for layer in self.stages:
            if isinstance(layer, nn.Conv2d):
                positions = {140: 40, 40: 10}[positions]
                total += conv_flops(layer, positions)
            elif isinstance(layer, ResidualBlock):
                total += layer.flops(positions)
        return total


class CropEncoder(nn.Module):
    """Encode the 9 x 9 cells around the cursor as 3 x 3 patches; the middle one is the cell and its neighbours."""

    def __init__(self, cell: int, channels: int, out: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(9 * cell, channels, 1)
        self.out = nn.Linear(9 * channels + 2, out)
        he_init(self.patches)
        he_init(self.out)

    def forward(self, cells: Tensor, cursor: Tensor) -> Tensor:
        """Map embedded cells in patches [N, 3, 3, 9 * cell] and the cursor [N, 2] in 0..1 to [N, out]."""
        x = F.relu(self.patches(cells.permute(0, 3, 1, 2))).flatten(1)
        return F.relu(self.out(torch.cat((x, cursor.to(x.dtype)), 1)))

    def flops(self) -> int:
        return conv_flops(self.patches, 9) + linear_flops(self.out)


def _table(rows: int, width: int) -> nn.Parameter:
    """Return a table of vectors. Not by torch.randn(): on the meta device it imports torch's compiler."""
    return nn.Parameter(nn.init.normal_(torch.empty(rows, width)))


class NetHackEncoder(nn.Module):
    """The concatenation of the five parts. `out_features` is the length of the feature vector."""

    def __init__(self, widths: NetHackWidths, num_actions: int) -> None:
        super().__init__()
        cell = widths.char + widths.color
        self.text_table = _table(CHARS, widths.text)
        self.char_table = _table(CHARS, widths.char)
        self.color_table = _table(COLORS, widths.color)
        self.action_table = _table(num_actions + 1, widths.action)  # the last row: no action yet
        self.message = TextEncoder(1, widths.text, widths.text_channels, widths.message)
        self.status = TextEncoder(2, widths.text, widths.text_channels, widths.status)
        self.map = MapEncoder(cell, widths.map_channels, widths.map)
        self.crop = CropEncoder(cell, widths.crop_channels, widths.crop)
        self.out_features = widths.message + widths.status + widths.map + widths.crop + widths.action
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def previous_action(self) -> nn.Parameter:
        """A row [action width] for each action, and a last one for "no action yet"."""
        return self.action_table

    def forward(self, obs: dict[str, Tensor], prev_action: Tensor) -> Tensor:
        """Map tty_chars, tty_colors [N, 24, 80], tty_cursor [N, 2] and prev_action [N] to [N, out_features]."""
        chars = obs["tty_chars"].clamp(32, 127) - 32
        cursor = obs["tty_cursor"].long()
        cells = chars[:, 1:22].short() * COLORS + (obs["tty_colors"][:, 1:22] & (COLORS - 1))  # [N, 21, 80]
        text = lookup(self.text_table, chars[:, (0, 22, 23)].long())  # [N, 3, 80, text]
        table = self.cell_table()
        return torch.cat(
            (
                self.message(text[:, :1]),
                self.status(text[:, 1:]),
                self.map(cells, table),
                self.crop(
                    lookup(table, patches_around(cells, cursor).long()).flatten(3), cursor / cursor.new_tensor([24, 80])
                ),
                lookup(self.action_table, prev_action),
            ),
            1,
        )

    def cell_table(self) -> Tensor:
        """Return [CHARS * COLORS, char + color], so that a cell takes one lookup instead of two."""
        chars = self.char_table.repeat_interleave(COLORS, 0)
        return torch.cat((chars, self.color_table.repeat(CHARS, 1)), 1)

    def params(self) -> dict[str, int]:
        """Count parameters by part: the table of both texts with the message, that of all cells with the map."""
        return {
            "message": self.text_table.numel() + count_parameters(self.message),
            "status": count_parameters(self.status),
            "map": self.char_table.numel() + self.color_table.numel() + count_parameters(self.map),
            "crop": count_parameters(self.crop),
            "previous action": self.action_table.numel(),
        }

    def flops(self) -> dict[str, int]:
        """Count the forward FLOPs of one sample by part."""
        return {
            "message": self.message.flops(),
            "status": self.status.flops(),
            "map": self.map.flops(),
            "crop": self.crop.flops(),
            "previous action": 0,
        }


def patches_of_map(cells: Tensor) -> Tensor:
    """Rearrange [N, 21, 80] to [N, 7, 20, 12]: the cells of each patch of 3 rows x 4 columns."""
    return cells.view(-1, 7, 3, 20, 4).transpose(2, 3).reshape(-1, 7, 20, 12)


# The patch of each cell of a map [MAP_CELLS], 0..139, and its place there, 0..11; also when imported under on_meta.
_ORDER = patches_of_map(torch.arange(MAP_CELLS, device="cpu")).flatten().argsort()
PATCH, PLACE = _ORDER // 12, _ORDER % 12


def patches_around(cells: Tensor, cursor: Tensor) -> Tensor:
    """Return the 9 x 9 cells of the map [N, 21, 80] around the cursor (terminal row, column) [N, 2], [N, 3, 3, 9].

    Cells beyond the edge are blank; a cursor outside the map (on the message) is moved to the nearest row.
    """
    padded = F.pad(cells, (4, 4, 4, 4), value=BLANK).flatten(1)  # 29 x 88
    corner = (cursor[:, 0] - 1).clamp(0, 20) * 88 + cursor[:, 1].clamp(0, 79)
    three = torch.arange(3, device=cells.device)
    inside = (three[:, None] * 88 + three).flatten()  # [9]
    offsets = (inside[:, None] * 3 + inside).flatten()  # [81], patch by patch
    return padded.gather(1, corner[:, None] + offsets).view(-1, 3, 3, 9)
