"""Devices by name, and the precision on them."""

import pytest
import torch

from playscale.agents.device import autocast, resolve_device, resolve_precision


def test_devices():
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
def test_devices_that_are_not_here(name, text):
    with pytest.raises(ValueError, match=text):
        resolve_device(name)


def test_precision():
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"
    product = {}
    for precision in ("fp32", "bf16"):
        with autocast(cpu, precision):
            product[precision] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert product == {"fp32": torch.float32, "bf16": torch.bfloat16}
