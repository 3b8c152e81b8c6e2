"""The presets that come with the package: ``configs/*.yaml`` by name."""

from __future__ import annotations

from pathlib import Path

from embedft.errors import InputError
from embedft.tools.text import did_you_mean

# An installed package contains configs/; in a clone they are beside it.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def presets() -> dict[str, Path]:
    """The files by name, without ``.yaml``."""
    folder = next(filter(Path.is_dir, _FOLDERS))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset(name: str) -> Path:
    """The file of a preset: ``recommended``, ``recommended.yaml`` or ``configs/recommended``.

    Raises:
        InputError: There is no such preset; the message lists the presets.
    """
    known = presets()
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    if plain in known:
        return known[plain]
    meant = did_you_mean(plain, known) or ";"
    raise InputError(f"--config: {name}: no such file{meant} the presets are {', '.join(known)}")
