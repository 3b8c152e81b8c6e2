"""What was asked and answered so far: a line a passage, only ever appended to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from embedft.errors import InputError
from embedft.table.record import normalize_text
from embedft.tools.files import replacing_file


class Journal:
    """The file beside the output from which an interrupted run goes on.

    Args:
        output: The JSONL with the pairs; the journal is the same name with ``.journal``.
        overwrite: Begin anew.

    Attributes:
        entries: By the key of what was asked: ``rows``, ``refused`` by reason, tokens ``in`` and
            ``out``.

    Raises:
        InputError: The output was not made from the journal, or the journal is damaged.
    """

    def __init__(self, output: Path, overwrite: bool) -> None:
        self.output = output
        self.path = output.with_name(f"{output.name}.journal")
        self.entries: dict[str, dict[str, Any]] = {}
        self._whole = 0  # bytes of whole lines: a kill can leave half of one
        if overwrite:
            return
        if self.path.is_file():
            content = self.path.read_bytes()
            self._whole = content.rfind(b"\n") + 1
            for number, line in enumerate(content[: self._whole].splitlines(), 1):
                try:
                    entry = json.loads(line)
                    self.entries[entry["key"]] = entry
                except (ValueError, KeyError, TypeError):
                    raise InputError(
                        f"{self.path}: line {number} is damaged; remove that line, its passage is "
                        "then asked again"
                    ) from None
        if output.exists():
            mine = {_line(row) for entry in self.entries.values() for row in entry["rows"]}
            if not set(output.read_bytes().splitlines(keepends=True)) <= mine:
                raise InputError(
                    f"{output}: holds rows that its journal does not, so it was edited or is "
                    "another file; give another --output_jsonl, or --overwrite to begin anew"
                )

    def open(self) -> None:
        """Makes the files ready for writing: an earlier run's are cut to whole lines, or empty."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.entries:
            self.output.unlink(missing_ok=True)
        with self.path.open("ab") as stream:
            stream.truncate(self._whole)

    def append(self, entry: dict[str, Any]) -> None:
        """Writes a line down to the disk before it counts."""
        with self.path.open("ab") as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())
        self.entries[entry["key"]] = entry

    def write_output(self, keys: list[str]) -> int:
        """Writes the rows of some entries in that order, each question once; returns how many."""
        rows: dict[str, dict[str, Any]] = {}
        for key in keys:
            for row in self.entries.get(key, {"rows": []})["rows"]:
                rows.setdefault(normalize_text(row["question"]), row)
        if rows:
            with replacing_file(self.output) as temporary, temporary.open("wb") as stream:
                stream.writelines(map(_line, rows.values()))
        return len(rows)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
