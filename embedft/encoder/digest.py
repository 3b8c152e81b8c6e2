"""A digest of a base model's weights, by which a resumed run knows them again."""

from __future__ import annotations

import hashlib

import torch
from safetensors import safe_open

from embedft.encoder.folder.model import BaseModel


def weights_digest(base: BaseModel) -> str:
    """A digest of the names, types, shapes and values of the weights in a model's folder.

    It takes 0.1 s for 100 MB. Other files of the same weights have the same digest.

    Returns:
        32 hexadecimal digits; empty if the folder has no such weights any more.
    """
    digests = []
    paths = [*base.folder.glob("model*.safetensors")]
    paths += base.adapter.glob("adapter_model*.safetensors") if base.adapter else []
    paths += [path for _, folder in base.head for path in folder.glob("model.safetensors")]
    for path in paths:
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it is no dict
                weight = weights.get_tensor(name)
                digest = hashlib.blake2b(f"{name} {weight.dtype} {weight.shape}".encode())
                digest.update(weight.contiguous().view(-1).view(torch.uint8).numpy())
                digests.append(digest.digest())
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest() if digests else ""
