"""Training steps: ours beside the paper's released LSTM policy at equal layers; ours against the matmul rate; growth.

    playscale bench train --games DIR --peer DIR

Equal layers: the peer's own network and training step against a twin of it (twin.py) that computes the same function
of the same weights with playscale's layers, LSTM core and Learner. Their first losses on the same real screens must
agree, or there is no row. Both take the same batches from memory; reading them is the data benchmark's.

MFU: analytic model FLOPs (3 x forward) a second over the FLOP/s of a 2048 x 2048 matmul in the same precision, measured
by the same process in the same round.

Growth: seconds and peak memory of a step from 8 columns to 80 and 800.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from playscale.agents.flops import training_flops_per_sample
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game

from .bench import Options, Row
from .contender import Contender
from .rounds import alternate, row
from .unrolls import read_unrolls

log = logging.getLogger(__name__)

WIDTHS = (64, 128, 512)  # 1.6M, 1.9M and 5.3M parameters with the paper's other settings
BATCHES = ((32, 8), (32, 32))  # unroll, batch
SIZES = ("100k", "1M", "10M", "100M")
CORES = ("lstm", "transformer")
GROWTH = (8, 80, 800)
CLOSE = {"fp32": 1e-4, "bf16": 3e-2}  # relative, of the first losses


class ContenderProcess:
    """The process of a contender."""

    def __init__(self, entry: Contender) -> None:
        command = [sys.executable, "-P", "-m", "playscale_benchmarks.contender", json.dumps(asdict(entry))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.samples = entry.unroll * entry.batch
        self.matmul: list[float] = []
        self.about = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side of the training benchmark ended with exit code {self._process.wait()}")
        return json.loads(line)

    def rate(self, seconds: float) -> float:
        """Return samples/s, measured for that time."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer = self._read()
        self.matmul.append(answer["matmul"])
        return self.samples / answer["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def sides(entries: Sequence[Contender]) -> Iterator[list[ContenderProcess]]:
    running: list[ContenderProcess] = []
    try:
        for entry in entries:
            running.append(ContenderProcess(entry))  # noqa: PERF401 - those that started are closed when one does not
        yield running
    finally:
        for side in running:
            side.close()


def run(options: Options) -> list[Row]:
    """Measure every row; the module's docstring describes them."""
    assert options.games is not None
    with tempfile.TemporaryDirectory(prefix="playscale-bench-") as folder:
        unrolls = _Unrolls(options.games, Path(folder))
        rows = [
            equal_layers(options, unrolls.entry("twin", *shape, precision, width=width))
            for precision in precisions()
            for width in WIDTHS
            for shape in BATCHES
        ]
        for precision in precisions():
            for core in CORES:
                rows += [
                    own(options, unrolls.entry("policy", 32, 8, precision, size=size, core=core)) for size in SIZES
                ]
        rows += [own(options, unrolls.entry("policy", 16, batch, "fp32", size="100k")) for batch in GROWTH]
        if torch.cuda.is_available():
            rows += [
                own(options, unrolls.entry("policy", 80, 104, "bf16", size=size, compile=compiled))
                for size in SIZES
                for compiled in (False, True)
            ]
    return rows


class _Unrolls:
    """The files of unrolls, each shape read once."""

    def __init__(self, games: Path, folder: Path) -> None:
        self._games, self._folder = games, folder

    def entry(self, kind: str, unroll: int, batch: int, precision: str, **what: Any) -> Contender:
        path = self._folder / f"{unroll}x{batch}.npz"
        if not path.exists():
            read_unrolls(self._games, path, unroll, batch)
        return Contender(kind, str(path), unroll, batch, precision, **what)


def precisions() -> list[str]:
    """Return fp32, and bf16 where the hardware multiplies in it."""
    if torch.cuda.is_available():
        return ["fp32", "bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else ["fp32"]
    able = torch.cpu.get_capabilities()
    return ["fp32", "bf16"] if able.get("avx512_bf16") or able.get("amx_bf16") else ["fp32"]


def equal_layers(options: Options, entry: Contender) -> Row:
    """Measure the twin beside the peer, or alone without one. RuntimeError when their first losses differ."""
    entries = [entry]
    if options.peer is not None:
        entry = replace(entry, peer=str(options.peer.resolve()))
        entries = [entry, replace(entry, kind="peer")]
    with sides(entries) as running:
        ours = running[0]
        name = f"equal layers, {ours.about['params'] / 1e6:.1f}M, {entry.unroll} x {entry.batch}"
        log.info("train: %s, %s", name, entry.precision)
        losses = [side.about["losses"] for side in running]
        if len(running) == 2 and abs(losses[0][0] / losses[1][0] - 1) > CLOSE[entry.precision]:
            raise RuntimeError(
                f"{name}: first loss {losses[0][0]:.6f}, the peer's {losses[1][0]:.6f}: not the same net"
            )
        named = {str(i): (lambda side=side: side.rate(options.seconds)) for i, side in enumerate(running)}
        measured = alternate(named, options.rounds)
        detail = {"dtype": entry.precision, "losses": losses, "memory_gib": [gib(side) for side in running]}
        return row(name, "samples/s", measured["0"], measured.get("1"), **detail)


def own(options: Options, entry: Contender) -> Row:
    """Measure Playscale's own policy: samples/s, model FLOP/s and MFU."""
    flops = training_flops_per_sample(config_for_size(get_game("nethack"), entry.size, entry.core))
    compiled = ", compiled" if entry.compile else ""
    name = f"policy {entry.size} {entry.core}, {entry.unroll} x {entry.batch}{compiled}"
    log.info("train: %s, %s", name, entry.precision)
    with sides([entry]) as (side,):
        rates = alternate({"ours": lambda: side.rate(options.seconds)}, options.rounds)["ours"]
        utilisation = sorted(rate * flops / peak for rate, peak in zip(rates, side.matmul, strict=True))
        mfu, matmul = utilisation[len(rates) // 2], sorted(side.matmul)[len(rates) // 2]
        ours = row(name, "samples/s", rates)
        step = side.samples / ours.ours
        note = f"{ours.ours * flops / 1e9:,.0f} of {matmul / 1e9:,.0f} GFLOP/s, MFU {mfu:.0%}; "
        note += f"{step:.3g} s, {gib(side):.2f} GiB a step"
        detail = {"dtype": entry.precision, "note": note, "mfu": mfu, "model_flops_per_second": ours.ours * flops}
        detail |= {"matmul_flops_per_second": matmul, "step_seconds": step, "memory_gib": gib(side)}
        return replace(ours, detail=ours.detail | detail)


def gib(side: ContenderProcess) -> float:
    """Return the memory in GiB that a side's network, batches and steps added at their peak."""
    return side.about["memory"] / 2**30
