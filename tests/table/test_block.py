from __future__ import annotations

import json

import numpy as np

from embedft.table.block import BlockReader
from embedft.table.keys import text_hashes
from embedft.table.settings import ReadSettings


def test_a_block_counts_lines_and_names_bad_rows(settings: ReadSettings) -> None:
    good = json.dumps({"id": "x", "question": "Q", "answer": "a", "label": -0.0}).encode()
    block = BlockReader(settings)(good + b"\n\n{}\n" + good[:-1])
    assert (block.lines, block.rows, block.skipped) == (4, 3, 2)
    assert [line for line, _ in block.bad_rows] == [3, 4]
    assert "was it cut off" in block.bad_rows[1][1]
    assert (block.line.tolist(), block.label.tolist()) == ([1], [0.0])
    assert block.question_hash.tolist() == text_hashes(["q"]).tolist()
    assert block.id_hash.tolist() == text_hashes(["x"]).tolist()


def test_equal_texts_of_a_block_are_tokenised_once(settings: ReadSettings) -> None:
    rows = [
        {"question": "same", "answer": "same", "negatives": ["same", "other"]},
        {"question": "q", "answer": "same", "context": "other"},
    ]
    block = BlockReader(settings)("\n".join(map(json.dumps, rows)).encode() + b"\n")
    assert len(block.lengths) == 3
    assert block.question[0] == block.answer[0] == block.answer[1] == block.negative[0]
    assert block.context.tolist() == [-1, block.negative[1]]
    assert block.negatives.tolist() == [2, 0]
    assert block.lengths.sum() == len(block.ids)
    assert block.context_hash[0] == block.file_hash[0] == 0
    assert np.isnan(block.label).all()
    assert block.first_without_label == 1
