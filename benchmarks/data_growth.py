"""Cost of a stream as its batch, unroll and corpus grow by 10 and 100: time per frame, and peak memory.

Each is measured in a process of its own, which reads and says how much it needed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from playscale.corpus.corpus import Corpus
from playscale.corpus.manifest import GameRecord, Manifest, write_manifest
from playscale.corpus.shards import ShardWriter

from .bench import Row

FRAMES = 10_000_000  # of the largest corpus
BATCH, UNROLL = 32, 32  # of the streams over corpora of different sizes
BATCHES, UNROLLS = (4, 40, 400), (4, 40, 400)
READ = 60_000  # frames that a process reads, or one batch if that is more
KEPT_GB = 0.05  # of sections fetched from S3, so that the bound is reached


def growth(corpus: Corpus, folder: Path) -> list[Row]:
    """Return the rows of growth: corpus by repetition (here and, where rclone is installed, in S3), batch, unroll."""
    rows = []
    root = folder / "s3"
    for factor in (1, 10, 100):
        place = root / "bucket" / f"frames-{FRAMES // factor}"
        frames = repeat(corpus, FRAMES // factor, place)
        rows.append(_row(f"corpus of {frames:,} frames", str(place), BATCH, UNROLL))
        if factor == 1:
            rows += _far(root, f"s3://bucket/{place.name}", frames)
    rows += [_row(f"batch {batch}, unroll {UNROLL}", corpus.uri, batch, UNROLL) for batch in BATCHES]
    rows += [_row(f"unroll {unroll}, batch {BATCH}", corpus.uri, BATCH, unroll) for unroll in UNROLLS]
    return rows


def repeat(corpus: Corpus, frames: int, place: Path) -> int:
    """Write a corpus of at least `frames` transitions by repeating a part of another's games."""
    place.mkdir(parents=True)
    writer = ShardWriter(place)
    games: list[GameRecord] = []
    count = 0
    some = list(itertools.takewhile(lambda g: g[1] < FRAMES // 100, _running(corpus.games)))
    for number, (game, _) in enumerate(itertools.cycle(some)):
        if count >= frames:
            break
        piece = place / "piece"
        piece.write_bytes(corpus.sections.read(game, 0, game.size))
        shard, offset = writer.append(piece)
        games.append(replace(game, key=f"{game.key}-{number}", split="train", shard=shard, offset=offset))
        count += game.transitions
    writer.close()
    shards = tuple(writer.shards)
    write_manifest(
        place, Manifest(corpus.game, corpus.num_actions, corpus.columns, shards, tuple(games), (), "repetition", "", "")
    )
    return count


def _running(games: tuple[GameRecord, ...]) -> Iterator[tuple[GameRecord, int]]:
    """Yield each game with the number of transitions before it."""
    before = 0
    for game in games:
        yield game, before
        before += game.transitions


def _row(name: str, uri: str, batch: int, unroll: int, **environment: str) -> Row:
    command = [sys.executable, "-P", "-m", "playscale_benchmarks.data_growth", uri, str(batch), str(unroll)]
    env = os.environ | environment
    out = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    note = f"{out['microseconds']:.2f} us a frame, opened in {out['open_ms']:.0f} ms; {out['base_mb']:.0f} MB before"
    return Row(f"peak memory: {name}", "MB", out["peak_mb"], detail={"note": note, **out})


def _far(root: Path, uri: str, frames: int) -> list[Row]:
    """Return the row of a corpus in S3, if rclone is installed."""
    beside = Path(sys.executable).parent / "rclone"
    rclone = str(beside) if beside.exists() else shutil.which("rclone")
    if rclone is None:
        return []
    with _server(rclone, root) as environment, tempfile.TemporaryDirectory() as kept:
        settings = {"PLAYSCALE_CACHE": kept, "PLAYSCALE_CACHE_GB": str(KEPT_GB)}
        row = _row(f"S3 corpus of {frames:,} frames", uri, BATCH, UNROLL, **environment, **settings)
        used = sum(path.stat().st_size for path in Path(kept).iterdir()) / 1e6
    note = f"{row.detail['note']}; {used:.0f} MB kept on disk of {1000 * KEPT_GB:.0f} allowed"
    return [replace(row, detail={**row.detail, "kept_mb": used, "note": note})]


@contextmanager
def _server(rclone: str, root: Path) -> Iterator[dict[str, str]]:
    """Run an S3 server on loopback over a folder; yield the environment in which boto3 finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key, secret = "PLAYSCALEBENCHACCESS", "bench"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{secret}"]
    with subprocess.Popen([*command, "--config", "/dev/null", str(root)], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            server.terminate()


def peak_mb() -> float:
    """Return the peak resident memory of this process, in MB.

    Not ru_maxrss: that counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Read a corpus and say what it cost.")
    parser.add_argument("uri")
    parser.add_argument("batch", type=int)
    parser.add_argument("unroll", type=int)
    options = parser.parse_args()
    base, start = peak_mb(), time.perf_counter()
    corpus = Corpus.open(options.uri)
    opened = time.perf_counter() - start
    size = options.batch * options.unroll
    stream = corpus.stream(batch=options.batch, unroll=options.unroll)
    warm, count = -(-2 * 640 // options.unroll), max(-(-READ // size), -(-10 * 640 // options.unroll))
    for _ in itertools.islice(stream, warm):
        pass
    start = time.process_time()
    for _ in itertools.islice(stream, count):
        pass
    seconds = time.process_time() - start
    out: dict[str, Any] = {"microseconds": 1e6 * seconds / (count * size), "open_ms": 1000 * opened}
    print(json.dumps(out | {"peak_mb": peak_mb(), "base_mb": base, "frames_read": (warm + count) * size}))


if __name__ == "__main__":
    main()
