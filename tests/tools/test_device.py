from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

import pytest
import torch

from embedft.tools.device import choose_precision, chooses_cuda, has_native_bf16, keep_freed_memory


def set_hardware(
    monkeypatch: pytest.MonkeyPatch,
    *,
    cpu: str | None = None,
    cuda: bool = False,
    cuda_bf16: bool = False,
    mps: bool = False,
) -> None:
    """Makes PyTorch report this hardware."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {cpu: True} if cpu else {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("accelerator", "hardware", "expected"),
    [
        ("cpu", {"cpu": None}, False),
        ("cpu", {"cpu": "avx512_bf16"}, True),
        ("auto", {"cpu": "amx_bf16"}, True),
        ("auto", {"cpu": "avx512_bf16", "cuda": True}, False),
        ("gpu", {"cuda": True, "cuda_bf16": True}, True),
        ("cpu", {"cuda": True, "cuda_bf16": True}, False),
        ("auto", {"cpu": "avx512_bf16", "mps": True}, False),
        ("cpu", {"cpu": "avx512_bf16", "mps": True}, True),
    ],
)
def test_bf16_is_that_of_the_device_that_computes(
    accelerator: str, hardware: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_hardware(monkeypatch, **hardware)
    assert has_native_bf16(accelerator) is expected
    assert choose_precision("auto", accelerator) == ("bf16-mixed" if expected else "32-true")


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", 64, None])
def test_a_given_precision_is_kept(
    precision: int | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_hardware(monkeypatch, cpu="amx_bf16")
    assert choose_precision(precision, "cpu") == precision


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda", "cpu", "mps"])
def test_cuda_needs_a_gpu(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_hardware(monkeypatch, cuda=True)
    assert chooses_cuda(accelerator) is (accelerator in {"auto", "gpu", "cuda"})
    set_hardware(monkeypatch)
    assert not chooses_cuda(accelerator)


@pytest.mark.parametrize("c_library", ["glibc", "musl"])
def test_memory_is_kept_by_glibc_only(c_library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory map for large blocks, and no trimming; the user's cache size for oneDNN wins."""
    options: dict[int, int] = {}

    class Library:
        def __init__(self, name: None) -> None:
            self.mallopt = options.__setitem__

    monkeypatch.setattr(platform, "libc_ver", lambda: (c_library, "2"))
    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    keep_freed_memory()
    m_trim_threshold, m_mmap_max = -1, -4  # in malloc.h
    assert options == ({m_trim_threshold: -1, m_mmap_max: 0} if c_library == "glibc" else {})
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
