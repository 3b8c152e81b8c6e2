"""What reading a file found, and the one message of a file that can't be used."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedft.errors import InputError

MAX_REPORTED = 20


@dataclass(slots=True)
class ReadCounts:
    """What reading a file found; counts of rows, or of texts where it says so.

    Attributes:
        path: The file.
        rows: Lines that are not blank.
        skipped: Bad rows.
        duplicates: Rows dropped because an earlier one agrees in every field but ``id``.
        repeated_questions: Questions whose text (normalised) stands in an earlier row.
        repeated_answers: Answers whose text (normalised) stands in an earlier row.
        bad_rows: Line number and what is wrong, of the first bad rows.
        same_ids: How many rows have the id of an earlier one, the line of the first of them and of
            that earlier one; empty if none has.
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
        """Rows that are used: read, neither bad nor dropped as duplicates."""
        return self.rows - self.skipped - self.duplicates

    @property
    def problems(self) -> list[str]:
        """The first bad rows in words: file, line, field, what is wrong."""
        return [f"{self.path}:{line}: {what}" for line, what in self.bad_rows]

    @property
    def same_ids_in_words(self) -> str:
        """That rows share an id, by line; empty if none do."""
        if not self.same_ids:
            return ""
        count, line, earlier = self.same_ids
        more = f", and {count - 1} more have that of another" if count > 1 else ""
        return (
            f"{self.path}:{line}: id: is that of line {earlier}{more} (a row without an id has its "
            "line number); give each an id of its own, ids.jsonl tells them apart by line alone"
        )

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.rows} rows read, {self.valid} valid, {self.skipped} skipped, "
            f"{self.duplicates} exact duplicates dropped, "
            f"{self.repeated_questions} repeated questions, "
            f"{self.repeated_answers} repeated answers"
        )

    def add_problem(self, line: int, what: str) -> None:
        """Counts a bad row, and keeps what is wrong with it if it is among the first."""
        self.skipped += 1
        if len(self.bad_rows) < MAX_REPORTED:
            self.bad_rows.append((line, what))

    def check(self, good: int, *, refuse_bad_rows: bool) -> None:
        """Refuses a file without rows, without good rows, or with bad ones.

        Args:
            good: Good rows.
            refuse_bad_rows: One bad row is enough.

        Raises:
            InputError: The file can't be used.
        """
        if self.rows == 0:
            raise InputError(
                f"{self.path}: no rows: the file is empty; give one JSON object a line"
            )
        if not self.skipped or (good and not refuse_bad_rows):
            return
        lines = self.problems
        if self.skipped > len(lines):
            lines.append(f"{self.path}: ... and {self.skipped - len(lines)} more bad rows")
        if self.skipped > 1:
            lines.append(f"{self.path}: {self.skipped} of {self.rows} rows are bad")
        if refuse_bad_rows and self.skipped < self.rows:
            lines[-1] += "; mend them or leave them out with --on_bad_rows skip"
        raise InputError("\n".join(lines))

    def check_labels(self, labelled: int, rows: int, first_without: int) -> None:
        """Refuses a file in which some rows have a label and others none.

        Args:
            labelled: Rows with a label.
            rows: Rows in all.
            first_without: Line of the first row without a label.

        Raises:
            InputError: ``labelled`` is neither 0 nor ``rows``.
        """
        if 0 < labelled < rows:
            raise InputError(
                f"{self.path}:{first_without}: label: missing, while {labelled} of {rows} rows "
                "have one; label all rows or none"
            )
