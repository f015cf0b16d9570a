"""Batches of a stream as tensors on the training device, read ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch

from playscale.tracking.monitor import watched

READ_AHEAD = 2
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Batch:
    """One unroll of some columns: tensors [T, B, ...], and what the host knows of it without asking the device.

    `game_ids`: the recorded games in all columns (ascending, padding left out); `resets`: the steps with a new game in
    any of these columns.
    """

    tensors: dict[str, torch.Tensor]
    game_ids: list[int]
    resets: list[int]


def batches(
    stream: Iterator[dict[str, np.ndarray]],
    device: torch.device,
    columns: slice = slice(None),
    ahead: int = READ_AHEAD,
) -> Generator[Batch]:
    """The stream's batches on `device`, in order, of them these columns.

    Close it (contextlib.closing) to stop the thread that reads ahead. Decoding and, for CUDA, pinning happen in that
    thread; the next batch is copied to the device, on a stream of its own, while the one before is trained on. What the
    stream raises is raised here, in its place.
    """
    with closing(_read_ahead(stream, columns, ahead, pin=device.type == "cuda")) as read:
        yield from _copied_ahead(read, device) if device.type == "cuda" else read


def _copied_ahead(read: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on a CUDA device, the copy of each begun before the one before it is handed out."""
    copying = torch.cuda.Stream(device)
    before: tuple[Batch, torch.cuda.Event] | None = None
    for batch in read:
        with torch.cuda.stream(copying):
            tensors = {name: value.to(device, non_blocking=True) for name, value in batch.tensors.items()}
            begun = (replace(batch, tensors=tensors), copying.record_event())
        if before is not None:
            yield _arrived(*before, device)
        before = begun
    if before is not None:
        yield _arrived(*before, device)


def _arrived(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Batch:
    """The batch for the stream that trains: the device waits for the copy, and keeps its memory until used."""
    training = torch.cuda.current_stream(device)
    training.wait_event(copied)
    for value in batch.tensors.values():
        value.record_stream(training)
    return batch


def _read_ahead(stream: Iterator[dict[str, np.ndarray]], columns: slice, ahead: int, pin: bool) -> Generator[Batch]:
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for arrays in stream:
                put(_to_tensors(arrays, columns, pin))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            put(error)
        else:
            put(None)

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        with watched("read_ahead_batches", ready.qsize):
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
    finally:
        stop.set()
        reader.join()


def _to_tensors(arrays: dict[str, np.ndarray], columns: slice, pin: bool) -> Batch:
    own = {name: np.ascontiguousarray(array[:, columns]) for name, array in arrays.items()}
    tensors = {name: torch.from_numpy(array) for name, array in own.items()}
    if pin:
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    game_ids = np.unique(arrays["game_id"][arrays["valid"]]).tolist() if "game_id" in arrays else []
    return Batch(tensors, game_ids, np.flatnonzero(own["done"].any(1)).tolist())
