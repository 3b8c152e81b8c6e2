"""The presets that come with the package: ``configs/*.yaml``, by their names."""

from __future__ import annotations

import difflib
from pathlib import Path

from embedft.errors import InputError

# Installed, configs/ lies in the package; in a clone it lies beside it.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def presets() -> dict[str, Path]:
    """The files by their names without ``.yaml``."""
    folder = next(filter(Path.is_dir, _FOLDERS))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset(name: str) -> Path:
    """The preset that is meant by ``recommended``, ``recommended.yaml`` or ``configs/recommended``.

    Raises:
        InputError: There is none of that name; the message lists those there are.
    """
    known = presets()
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    if plain in known:
        return known[plain]
    close = difflib.get_close_matches(plain, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ";"
    raise InputError(f"--config: {name}: no such file{meant} the presets are {', '.join(known)}")
