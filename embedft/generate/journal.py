"""The journal of a run: one line per answered passage, only ever appended to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from embedft.errors import InputError
from embedft.table.record import normalize_text
from embedft.tools.files import replacing_file


class Journal:
    """The file beside the output from which an interrupted run resumes.

    Args:
        output: The JSONL file of pairs; the journal has the same name with ``.journal`` appended.
        overwrite: Ignore an existing journal and output.

    Attributes:
        entries: By request key: ``rows``, ``refused`` (counts by reason), and the tokens ``in`` and
            ``out``.

    Raises:
        InputError: The output was not made from the journal, or the journal is damaged.
    """

    def __init__(self, output: Path, overwrite: bool) -> None:
        self.output = output
        self.path = output.with_name(f"{output.name}.journal")
        self.entries: dict[str, dict[str, Any]] = {}
        self._complete = 0  # bytes of complete lines: a killed run can leave half a line
        for path in (output, self.path):
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: is no file; give another --output_jsonl")
        if overwrite:
            return
        if self.path.is_file():
            content = self.path.read_bytes()
            self._complete = content.rfind(b"\n") + 1
            for number, line in enumerate(content[: self._complete].splitlines(), 1):
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    entry = None
                if _is_entry(entry):
                    self.entries[entry["key"]] = entry
                else:
                    raise InputError(
                        f"{self.path}: line {number} is damaged; remove it, and its passage "
                        "is asked about again"
                    )
        if output.exists():
            known = {_line(row) for entry in self.entries.values() for row in entry["rows"]}
            if not set(output.read_bytes().splitlines(keepends=True)) <= known:
                raise InputError(
                    f"{output}: has rows that its journal lacks, so it was edited or is another "
                    "file; give another --output_jsonl, or start over with --overwrite"
                )

    def open(self) -> None:
        """Prepares for writing: drops half a line, and without entries all of an earlier run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.entries:
            self.output.unlink(missing_ok=True)
        with self.path.open("ab") as stream:
            stream.truncate(self._complete)

    def append(self, entry: dict[str, Any]) -> None:
        """Adds an entry, which is on the disk when this returns."""
        with self.path.open("ab") as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fsync(stream.fileno())
        self.entries[entry["key"]] = entry

    def write_output(self, keys: list[str]) -> int:
        """Writes the rows of these entries in this order, each question once; returns the count."""
        rows: dict[str, dict[str, Any]] = {}
        for key in keys:
            for row in self.entries.get(key, {"rows": []})["rows"]:
                rows.setdefault(normalize_text(row["question"]), row)
        if rows:
            with replacing_file(self.output) as temporary, temporary.open("wb") as stream:
                stream.writelines(map(_line, rows.values()))
        return len(rows)


def _is_entry(entry: Any) -> bool:
    """Whether a value is what :meth:`Journal.append` writes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return False
    rows, refused = entry.get("rows"), entry.get("refused")
    if not isinstance(rows, list) or not isinstance(refused, dict):
        return False
    counts = (*refused.values(), entry.get("in"), entry.get("out"))
    return all(type(count) is int for count in counts) and all(
        isinstance(row, dict)
        and all(isinstance(text, str) for text in row.values())
        and row.keys() >= {"question", "answer"}
        for row in rows
    )


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
