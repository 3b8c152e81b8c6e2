"""Columns of numbers that grow on disk, a file each, and are memory-mapped when complete."""

from __future__ import annotations

from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"i8", "u8", "u2", "i4", "b1", "f8"}
"""Of columns, without the order of their bytes; others could hold addresses of memory."""

Layout = dict[str, tuple[str, int]]
"""Type and number of entries of each column."""


class ColumnFiles:
    """Columns in a folder, each appended to block by block.

    Args:
        folder: An existing folder that holds nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout: Layout = {}
        self._streams: dict[str, BufferedWriter] = {}

    def append(self, name: str, entries: NDArray[Any]) -> None:
        """Adds (entries,) numbers to a column; the first entries decide its type."""
        if name not in self._streams:
            self._streams[name] = column_path(self.folder, name).open("wb")
            self.layout[name] = (entries.dtype.str, 0)
        dtype, length = self.layout[name]
        self._streams[name].write(np.ascontiguousarray(entries, dtype=dtype).data)
        self.layout[name] = (dtype, length + len(entries))

    def replace(self, name: str, entries: NDArray[Any]) -> None:
        """Writes a whole column; it replaces an earlier one of this name."""
        if name in self._streams:
            self.remove(name)
        self.append(name, entries)

    def remove(self, name: str) -> None:
        """Deletes a column."""
        self._streams.pop(name).close()
        column_path(self.folder, name).unlink()
        del self.layout[name]

    def read(self, name: str) -> NDArray[Any]:
        """(entries,) a column as it is so far."""
        self._streams[name].flush()
        return open_column(self.folder, name, *self.layout[name])

    def close(self) -> None:
        """Closes the files."""
        for stream in self._streams.values():
            stream.close()


def stored_name(field: str) -> str:
    """The name of a field's column on disk: caches have always called a hash a key."""
    return field.replace("_hash", "_key")


def column_path(folder: Path, name: str) -> Path:
    """The file of a column."""
    return folder / f"{name}.bin"


def open_column(folder: Path, name: str, dtype: str, length: int) -> NDArray[Any]:
    """A column, memory-mapped.

    Raises:
        OSError: There is no such file.
        ValueError: The type is not that of a column, or the file does not have its size.
    """
    if dtype[1:] not in _DTYPES:
        raise ValueError(f"{name}: numbers of type {dtype} are not read")
    path = column_path(folder, name)
    if path.stat().st_size != length * np.dtype(dtype).itemsize:
        raise ValueError(f"{path}: is not {length} numbers of type {dtype}")
    if not length:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
