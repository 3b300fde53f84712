"""A peak is that of the very device and dtype, or none."""

from types import SimpleNamespace

import torch

from cleangpt.machine import peaks
from cleangpt.machine.device import Compute


def card(name, dtype):
    """A GPU of this name, which this machine need not have."""
    return SimpleNamespace(device=torch.device("cuda"), dtype=dtype, name=name)


def test_a_peak_is_that_of_the_device_and_the_dtype():
    assert peaks.peak(card("NVIDIA H100 80GB HBM3", torch.bfloat16)) == 989.4e12
    assert peaks.peak(card("NVIDIA H100 PCIe", torch.bfloat16)) == 756e12
    assert peaks.peak(card("NVIDIA A100-SXM4-80GB", torch.float16)) == 312e12
    assert peaks.peak(card("Tesla T4", torch.float16)) == 65e12


def test_float32_has_the_peak_of_the_cores_that_compute_it(monkeypatch):
    a100 = card("NVIDIA A100-SXM4-80GB", torch.float32)
    assert peaks.peak(a100) == 19.5e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert peaks.peak(a100) == 156e12


def test_what_is_not_known_has_no_peak():
    assert peaks.peak(Compute(torch.device("cpu"), torch.float32)) is None
    assert peaks.peak(card("NVIDIA H100 of next year", torch.bfloat16)) is None
    assert peaks.peak(card("Tesla T4", torch.bfloat16)) is None, "it has no such cores"
