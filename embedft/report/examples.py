"""Questions that got better and worse, with what each model ranks first."""

from __future__ import annotations

from collections.abc import Sequence

from embedft.evaluation.query_results import Findings
from embedft.report.page import Cell, Section, Table, Text
from embedft.report.run_data import Evidence
from embedft.tools.text import one_line

MAX_TEXT = 320
"""Characters of a text that are shown."""


def examples(title: str, evidence: Evidence, queries: Sequence[int]) -> Section:
    """The questions that gained or lost most, with what each model ranks first."""
    section = Section(title)
    for query in queries:
        row = evidence.rows[query]
        before, after = (int(found.ranks[query]) for found in evidence.found.values())
        file = f" ({row.file_name})" if row.file_name else ""
        section.blocks.append(Text(f"{one_line(row.question, MAX_TEXT)}{file}", "strong"))
        rows: list[list[str | Cell]] = []
        for place in range(evidence.found["base model"].top_places.shape[1]):
            cells = [_answer(evidence, found, query, place) for found in evidence.found.values()]
            rows.append([str(place + 1), *cells])
        shown = len(rows)
        if max(before, after) > shown:
            rows.append(
                ["…", *(_right(evidence, of, query, shown) for of in evidence.found.values())]
            )
        head = ["", f"base model: right at {before}", f"tuned model: right at {after}"]
        section.blocks.append(Table(head, rows))
    return section


def _answer(evidence: Evidence, found: Findings, query: int, place: int) -> Cell:
    document = int(found.top_places[query, place])
    score = float(found.top_scores[query, place])
    return _cell(evidence, document, f"{score:.3f}", document in evidence.relevant[query])


def _right(evidence: Evidence, found: Findings, query: int, shown: int) -> str | Cell:
    """The right answer, where it is not among those shown."""
    if (rank := int(found.ranks[query])) <= shown:
        return ""
    note = f"rank {rank}, {float(found.scores[query]):.3f}"
    return _cell(evidence, int(found.places[query]), note, True)


def _cell(evidence: Evidence, document: int, note: str, right: bool) -> Cell:
    text, file = evidence.documents[document]
    note += f" · {file}" if file else ""
    return Cell(
        one_line(text, MAX_TEXT),
        f"✓ right answer · {note}" if right else note,
        "good" if right else "plain",
    )
