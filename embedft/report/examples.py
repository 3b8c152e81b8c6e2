"""The questions that improved and worsened most, with the top answers of each model."""

from __future__ import annotations

from collections.abc import Sequence

from embedft.evaluation.query_results import QueryResults
from embedft.report.page import Block, Cell, HtmlTable, HtmlText, Section
from embedft.report.run_data import BASE, TUNED, ReportData
from embedft.tools.text import one_line

MAX_TEXT = 320
"""Characters of a text that are shown."""


def most_improved(data: ReportData) -> Section:
    """The questions whose relevant answer rose most."""
    return Section("Most improved", _examples(data, data.improved))


def most_worsened(data: ReportData) -> Section:
    """The questions whose relevant answer fell most."""
    return Section("Most worsened", _examples(data, data.worsened))


def _examples(data: ReportData, queries: Sequence[int]) -> list[Block]:
    blocks: list[Block] = []
    models = data.results.values()
    for query in queries:
        row = data.rows[query]
        file = f" ({row.file_name})" if row.file_name else ""
        blocks.append(HtmlText(f"{one_line(row.question, MAX_TEXT)}{file}", "strong"))
        n_shown = data.results[BASE].top_indices.shape[1]
        rows: list[list[str | Cell]] = [
            [str(index + 1), *(_top_answer(data, found, query, index) for found in models)]
            for index in range(n_shown)
        ]
        ranks = {name: int(found.ranks[query]) for name, found in data.results.items()}
        if max(ranks.values()) > n_shown:
            rows.append(["…", *(_relevant_below(data, found, query, n_shown) for found in models)])
        head = ["", *(f"{name}: relevant answer at rank {ranks[name]}" for name in (BASE, TUNED))]
        blocks.append(HtmlTable(head, rows))
    return blocks


def _top_answer(data: ReportData, results: QueryResults, query: int, index: int) -> Cell:
    document = int(results.top_indices[query, index])
    score = float(results.top_scores[query, index])
    return _cell(data, document, f"{score:.3f}", document in data.relevant[query])


def _relevant_below(
    data: ReportData, results: QueryResults, query: int, n_shown: int
) -> str | Cell:
    """The best relevant answer, if it is not among the top answers shown."""
    if (rank := int(results.ranks[query])) <= n_shown:
        return ""
    note = f"rank {rank}, {float(results.best_scores[query]):.3f}"
    return _cell(data, int(results.best_indices[query]), note, True)


def _cell(data: ReportData, document: int, note: str, relevant: bool) -> Cell:
    text, file = data.documents[document]
    note += f" · {file}" if file else ""
    if relevant:
        return Cell(one_line(text, MAX_TEXT), f"✓ relevant answer · {note}", "good")
    return Cell(one_line(text, MAX_TEXT), note)
