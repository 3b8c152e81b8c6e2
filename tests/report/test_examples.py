from __future__ import annotations

from report_data import report_data

from embedft.report.examples import MAX_TEXT, most_improved, most_worsened
from embedft.report.page import Cell, HtmlTable, HtmlText


def test_top_answers_of_both_models_and_the_relevant_one() -> None:
    section = most_improved(report_data())
    question, table = section.blocks
    assert question == HtmlText("question 0? (0.pdf)", "strong")
    assert isinstance(table, HtmlTable)
    assert table.head == [
        "",
        "base model: relevant answer at rank 7",
        "tuned model: relevant answer at rank 1",
    ]
    relevant = Cell("document 0", "✓ relevant answer · 0.500", "good")
    assert table.rows[0] == ["1", Cell("document 9", "0.500 · a.pdf"), relevant]
    assert [row[0] for row in table.rows] == ["1", "2", "3", "…"]
    assert table.rows[3] == [
        "…",
        Cell("document 0", "✓ relevant answer · rank 7, 0.250", "good"),
        "",
    ]


def test_no_extra_row_if_the_relevant_answer_is_among_the_top() -> None:
    table = most_worsened(report_data()).blocks[1]
    assert isinstance(table, HtmlTable)
    assert [row[0] for row in table.rows] == ["1", "2", "3"]


def test_long_texts_are_shortened() -> None:
    data = report_data()
    documents = {index: text._replace(text="word " * 200) for index, text in data.documents.items()}
    table = most_improved(report_data(documents=documents)).blocks[1]
    assert isinstance(table, HtmlTable)
    cell = table.rows[0][1]
    assert isinstance(cell, Cell)
    assert len(cell.text) == MAX_TEXT
    assert cell.text.endswith("…")


def test_no_section_without_questions() -> None:
    assert not most_improved(report_data(improved=[])).blocks
