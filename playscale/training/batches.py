"""Batches of a stream as tensors on the training device, read ahead in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch

READ_AHEAD = 2
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Batch:
    """One unroll of every column: tensors [T, B, ...], and the ids of the games in it (ascending, padding left out)."""

    tensors: dict[str, torch.Tensor]
    game_ids: list[int]


def batches(stream: Iterator[dict[str, np.ndarray]], device: torch.device) -> Generator[Batch]:
    """The stream's batches on `device`, in order. Close it (contextlib.closing) to stop the thread that reads ahead.

    Decoding and, for CUDA, pinning happen in that thread; the copy to the device overlaps the step before. What the
    stream raises is raised here, in its place.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(READ_AHEAD)
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
                put(_to_tensors(arrays, pin=device.type == "cuda"))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            put(error)
        else:
            put(None)

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield Batch({k: v.to(device, non_blocking=True) for k, v in item.tensors.items()}, item.game_ids)
    finally:
        stop.set()
        reader.join()


def _to_tensors(arrays: dict[str, np.ndarray], pin: bool) -> Batch:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if pin:
        tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
    return Batch(tensors, np.unique(arrays["game_id"][arrays["valid"]]).tolist())
