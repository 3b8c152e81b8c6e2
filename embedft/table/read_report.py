"""What reading a file counted, and the error for a file that can't be used."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedft.errors import InputError
from embedft.tools.text import printable

MAX_REPORTED = 20
"""Bad rows that are named; of the rest, only the number is."""


@dataclass(slots=True)
class ReadCounts:
    """What reading a file counted: rows, or texts if it says so.

    Attributes:
        path: The file.
        rows: Lines that are not blank.
        skipped: Bad rows.
        duplicates: Rows dropped because an earlier one is equal in every field but ``id``.
        repeated_questions: Questions whose normalised text occurs in an earlier row.
        repeated_answers: Answers whose normalised text occurs in an earlier row.
        bad_rows: Line number of each of the first bad rows, and what is wrong.
        same_ids: How many rows have the id of an earlier row, the line of the first of them, and
            the line of that earlier row; empty if none has.
    """

    path: str
    rows: int = 0
    skipped: int = 0
    duplicates: int = 0
    repeated_questions: int = 0
    repeated_answers: int = 0
    bad_rows: list[tuple[int, str]] = field(default_factory=list)
    same_ids: list[int] = field(default_factory=list)

    @property
    def valid(self) -> int:
        """Rows that are used: neither bad nor dropped as duplicates."""
        return self.rows - self.skipped - self.duplicates

    @property
    def problems(self) -> list[str]:
        """One line for each of the first bad rows: file, line, field, what is wrong."""
        return [printable(f"{self.path}:{line}: {what}", 300) for line, what in self.bad_rows]

    @property
    def same_ids_problem(self) -> str:
        """Which rows share an id; empty if none do."""
        if not self.same_ids:
            return ""
        count, line, earlier = self.same_ids
        more = f"; {count - 1} more duplicates" if count > 1 else ""
        return (
            f"{self.path}:{line}: id: duplicate id (same as line {earlier}{more}; the id of a row "
            "without one is its line number). Make ids unique; otherwise only the line number "
            "identifies a row"
        )

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.rows} rows read, {self.valid} valid, {self.skipped} skipped, "
            f"{self.duplicates} exact duplicates dropped, "
            f"{self.repeated_questions} repeated questions, "
            f"{self.repeated_answers} repeated answers"
        )

    def add_problem(self, line: int, what: str) -> None:
        """Counts a bad row, and keeps what is wrong with the first ones."""
        self.skipped += 1
        if len(self.bad_rows) < MAX_REPORTED:
            self.bad_rows.append((line, what))

    def check(self, n_valid: int, *, refuse_bad_rows: bool) -> None:
        """Refuses a file without rows, without valid rows, or with bad ones.

        Args:
            n_valid: Valid rows.
            refuse_bad_rows: Refuse a file with a bad row. If not, one valid row is enough.

        Raises:
            InputError: The file can't be used.
        """
        if self.rows == 0:
            raise InputError(
                f"{self.path}: no rows: the file is empty. Give one JSON object per line"
            )
        if not self.skipped or (n_valid and not refuse_bad_rows):
            return
        lines = self.problems
        if self.skipped > len(lines):
            lines.append(f"{self.path}: ... and {self.skipped - len(lines)} more bad rows")
        if self.skipped > 1:
            lines.append(f"{self.path}: {self.skipped} of {self.rows} rows are bad")
        if refuse_bad_rows and self.skipped < self.rows:
            lines[-1] += ". Fix them, or leave them out with --on_bad_rows skip"
        raise InputError(*lines)

    def check_labels(self, labelled: int, rows: int, first_without: int) -> None:
        """Refuses a file in which only a part of the rows has a label.

        Args:
            labelled: Rows with a label.
            rows: All rows.
            first_without: Line of the first row without a label.

        Raises:
            InputError: ``labelled`` is neither 0 nor ``rows``.
        """
        if 0 < labelled < rows:
            raise InputError(
                f"{self.path}:{first_without}: label: missing, while {labelled} of {rows} rows "
                "have one. Label all rows or none"
            )
