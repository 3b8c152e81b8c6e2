"""Questions that got better and worse, with what each model ranks first."""

from __future__ import annotations

from collections.abc import Sequence

from embedft.evaluation.query_results import QueryResults
from embedft.report.page import Cell, HtmlTable, HtmlText, Section
from embedft.report.run_data import ReportData
from embedft.tools.text import one_line

MAX_TEXT = 320
"""Characters of a text that are shown."""


def examples(title: str, data: ReportData, queries: Sequence[int]) -> Section:
    """The questions that gained or lost most, with what each model ranks first."""
    section = Section(title)
    for query in queries:
        row = data.rows[query]
        before, after = (int(found.ranks[query]) for found in data.found.values())
        file = f" ({row.file_name})" if row.file_name else ""
        section.blocks.append(HtmlText(f"{one_line(row.question, MAX_TEXT)}{file}", "strong"))
        rows: list[list[str | Cell]] = []
        for place in range(data.found["base model"].top_indices.shape[1]):
            cells = [_answer(data, found, query, place) for found in data.found.values()]
            rows.append([str(place + 1), *cells])
        shown = len(rows)
        if max(before, after) > shown:
            rows.append(["…", *(_right(data, of, query, shown) for of in data.found.values())])
        head = ["", f"base model: right at {before}", f"tuned model: right at {after}"]
        section.blocks.append(HtmlTable(head, rows))
    return section


def _answer(data: ReportData, found: QueryResults, query: int, place: int) -> Cell:
    document = int(found.top_indices[query, place])
    score = float(found.top_scores[query, place])
    return _cell(data, document, f"{score:.3f}", document in data.relevant[query])


def _right(data: ReportData, found: QueryResults, query: int, shown: int) -> str | Cell:
    """The right answer, where it is not among those shown."""
    if (rank := int(found.ranks[query])) <= shown:
        return ""
    note = f"rank {rank}, {float(found.best_scores[query]):.3f}"
    return _cell(data, int(found.best_indices[query]), note, True)


def _cell(data: ReportData, document: int, note: str, right: bool) -> Cell:
    text, file = data.documents[document]
    note += f" · {file}" if file else ""
    return Cell(
        one_line(text, MAX_TEXT),
        f"✓ right answer · {note}" if right else note,
        "good" if right else "plain",
    )
