"""Devices by name, and the precision on them."""

import pytest
import torch

from playscale.agents import device
from playscale.agents.device import autocast, default_threads, resolve_device, resolve_precision, torch_threads


def test_devices_are_resolved_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gpu", "device 'gpu' is not one torch knows"),
        ("cuda:99", r"device 'cuda:99' is not here \(\d+ CUDA devices\)"),
        ("mps", "device 'mps' is not here"),
        ("xpu", "device 'xpu' is not here"),
    ],
)
def test_missing_devices_are_refused_in_one_line(name, text):
    with pytest.raises(ValueError, match=text):
        resolve_device(name)


def test_auto_precision_follows_the_device():
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"
    product = {}
    for precision in ("fp32", "bf16"):
        with autocast(cpu, precision):
            product[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product == {"fp32": torch.float32, "bf16": torch.bfloat16}


def test_small_policies_train_on_one_thread_large_ones_on_their_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(device, "usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)  # as OMP_NUM_THREADS=6 sets it
    assert [default_threads(params) for params in (10_000, 999_999, 1_000_000, 10**9)] == [1, 1, 6, 6]
    assert [default_threads(10**9, processes) for processes in (1, 2, 3, 16)] == [6, 4, 2, 1]


def test_threads_are_restored():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
