"""Presets, ``configs/*.yaml`` by name, and what a config file may not hold."""

from __future__ import annotations

import re
from pathlib import Path

from embedft.errors import InputError
from embedft.tools.text import did_you_mean

_MOST_BYTES = 1 << 20
_MOST_ALIASES = 10
"""Aliases of YAML in a file: each can repeat all that came before it."""

_ALIAS = re.compile(r"(?:^|[\s,\[{:-])\*\w", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
_CONFIG = re.compile(r"^(?:\{\s*)?[\"']?config[\"']?\s*:", re.MULTILINE)
_SETTING = re.compile(
    r"^[ \t]*(?:-[ \t]+)?(?:[\"']?(?P<key>\w+)\+?[\"']?[ \t]*:[ \t]+)?(?P<value>\S+)[ \t]*$",
    re.MULTILINE,
)
# The parser reads a file that one of these names, and prints its content if it is no config.
_CLASSES = {"model", "data", "trainer", "loss", "callbacks", "logger", "plugins", "profiler"}
_CLASSES |= {"strategy", "init_args", "lora"}


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


def refuse_odd_config(path: Path) -> None:
    """Refuses a config that names another file to read, or that is no config.

    Args:
        path: YAML or JSON.

    Raises:
        InputError: It can't be read, is too large, has many aliases, or names a file of settings.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is larger than {_MOST_BYTES} bytes, so it is no config")
        text = _COMMENT.sub("", path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a config: it is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(_ALIAS.findall(text)) > _MOST_ALIASES:
        raise InputError(f"{path}: has more than {_MOST_ALIASES} aliases; write its settings out")
    if _CONFIG.search(text):
        raise InputError(f"{path}: config: a config can't name another; give --config twice")
    for setting in _SETTING.finditer(text):
        key, value = setting["key"], setting["value"].strip("\"'")
        if (key is None or key in _CLASSES) and Path(value).is_file():
            raise InputError(f"{path}: {key or 'an entry'}: is a file; write its settings here")
