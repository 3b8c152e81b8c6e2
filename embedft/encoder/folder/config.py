"""The configuration of a backbone, with sizes within reason."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from embedft.encoder.folder.settings import read_object

_LARGEST = 10_000_000
"""Of the sizes of a backbone; the largest vocabularies have a tenth of it."""
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a backbone, with sizes within reason.

    Raises:
        ValueError: A size is not one, or there are far more weights than the files can hold.
        Exception: Anything that transformers raises.
    """
    read_object(folder / "config.json")
    config: PretrainedConfig = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    sizes = {name: getattr(config, name, None) for name in _SIZES}
    for name, size in sizes.items():
        if size is not None and not (type(size) is int and 0 < size <= _LARGEST):
            raise ValueError(f"its {name} is {size}, not a number from 1 to {_LARGEST}")
    if sizes["hidden_size"] is None or sizes["vocab_size"] is None:
        raise ValueError("its config.json has no hidden_size or no vocab_size")
    pad = getattr(config, "pad_token_id", None)
    if pad is not None and not (type(pad) is int and pad >= 0):
        raise ValueError(f"its pad_token_id is {pad}")
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    layers, hidden = sizes["num_hidden_layers"] or 1, sizes["hidden_size"]
    # A layer has at least 4 · hidden² weights. Some families share them, at most among 48 layers.
    if n_bytes and layers * hidden**2 > 48 * n_bytes:
        raise ValueError(f"its {layers} layers of size {hidden} do not fit its files")
    return config
