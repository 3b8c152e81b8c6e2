"""A device's precision, faster memory allocation on a CPU, and errors of too little memory."""

from __future__ import annotations

import ctypes
import logging
import os
import platform

import torch

from embedft.recipe import AUTO

log = logging.getLogger(__name__)

# Options of mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Lets the process keep freed memory for its next allocations.

    By default glibc returns large blocks to the system at once. A training step on a CPU frees and
    allocates gigabytes of activations, and the system has to clear each page again. Does nothing
    with another C library.
    """
    # oneDNN compiles a matrix product for each new shape. By default it keeps 1,024: a gigabyte.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def choose_precision(precision: int | str | None, accelerator: str) -> int | str | None:
    """Resolves ``auto``: mixed bf16 if the hardware supports it, else float32.

    Args:
        precision: As for Lightning, or ``auto``.
        accelerator: As for Lightning: ``auto``, ``cpu``, ``gpu``, ...
    """
    if precision != AUTO:
        return precision
    chosen = "bf16-mixed" if has_native_bf16(accelerator) else "32-true"
    log.info("precision auto: %s", chosen)
    return chosen


def has_native_bf16(accelerator: str) -> bool:
    """Whether the device that Lightning will choose multiplies bf16 in hardware."""
    if chooses_cuda(accelerator):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator in {"auto", "gpu", "mps"} and torch.backends.mps.is_available():
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def chooses_cuda(accelerator: str) -> bool:
    """Whether Lightning will choose an NVIDIA or AMD GPU."""
    return accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, of the machine or of a GPU, was not enough."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The last is how oneDNN says it.
    phrases = ("not enough memory", "can't allocate memory", "could not create a primitive")
    return any(phrase in str(error) for phrase in phrases)
