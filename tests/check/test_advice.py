from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from check_output import Capture, Flags, advice_lines, check_output, row_of
from tiny import MULTILINGUAL, sample_rows, write_jsonl


def padded(words: int) -> list[dict[str, Any]]:
    """60 rows whose answers have this many more words."""
    return [row | {"answer": row["answer"] + " word" * words} for row in sample_rows()[:60]]


def same_answers() -> list[dict[str, Any]]:
    return [row | {"answer": "No."} if i > 52 else row for i, row in enumerate(sample_rows()[:60])]


def near_answers() -> list[dict[str, Any]]:
    rows = sample_rows()[:60]
    return [row | {"answer": f"{rows[i % 55]['answer']} It is."} for i, row in enumerate(rows)] + [
        {**row, "question": f"And {row['id']}?", "file_name": f"{row['id']}.pdf"}
        for row in rows[:5]
    ]


def generic() -> list[dict[str, Any]]:
    return [
        row | {"question": "What is found?"} if i % 5 == 0 else row
        for i, row in enumerate(sample_rows()[:60])
    ]


def copied() -> list[dict[str, Any]]:
    return [row | {"question": row["answer"][:60]} for row in sample_rows()[:60]]


ROWS = sample_rows()[:60]
ADVICE = {
    "batch": (ROWS, ["--batch_size=64"], "more than the", "--batch_size=8"),
    "warm-up": (ROWS, ["--warmup_steps=500"], "--warmup_steps auto", "--warmup_steps=auto"),
    "cut": (padded(20), [], "--max_seq_length 64", "--max_seq_length=64"),
    "hopeless": (padded(900), [], "split them into passages", None),
    "rate": (ROWS, ["--learning_rate=2e-5"], "--learning_rate 0.0001", "--learning_rate=1e-4"),
    "epochs": (ROWS, ["--epochs=8", "--learning_rate=1e-4"], "--epochs 3", "--epochs=3"),
    "few held out": (ROWS, ["--train_split=0.9"], "--train_split 0.8", "--train_split=0.8"),
    "one answer": (same_answers(), [], "7 rows have the answer of line 54", None),
    "near answers": (near_answers(), [], "answers are near-duplicates of another", None),
    "generic": (
        generic(),
        [],
        '12 of 60 rows have the question "What is found?" (line 1, 12 files): questions that more '
        "than 10 files share can't tell files apart",
        "--data.max_files_per_question=10",
    ),
    "copied": (copied(), [], "100% of the questions are copied", None),
    "labels unused": (
        [row | {"label": i % 2} for i, row in enumerate(ROWS)],
        [],
        "--loss_function ContrastiveLoss",
        "--loss_function=ContrastiveLoss",
    ),
    "grades unused": (
        [row | {"label": i % 5 / 4} for i, row in enumerate(ROWS)],
        [],
        "--loss_function CosineSimilarityLoss",
        "--loss_function=CosineSimilarityLoss",
    ),
    "labels missing": (
        ROWS,
        ["--loss_function=contrastive"],
        "--loss_function MultipleNegativesRankingLoss",
        "--loss_function=mnrl",
    ),
    "no files": (
        [{"question": row["question"], "answer": row["answer"]} for row in ROWS],
        [],
        "60 rows have no file_name",
        None,
    ),
    "tongues": (
        [*ROWS[:40], *sample_rows(MULTILINGUAL)],
        [],
        "--config configs/multilingual.yaml",
        None,
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_is_given_until_it_is_followed(
    name: str, tmp_path: Path, small: Flags, capsys: Capture
) -> None:
    """A problem gets its line of advice; after following it, the line is gone."""
    rows, flags, line, instead = ADVICE[name]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    args = [str(pairs), *small, *flags]
    assert sum(line in shown for shown in advice_lines(check_output(args, capsys))) >= 1
    if instead is None:
        good = [row | {"answer": f"It is {i}."} for i, row in enumerate(sample_rows()[:60])]
        others = write_jsonl(tmp_path / "good.jsonl", good)
        args = [str(others), *small]
    else:
        args.append(instead)
    assert not any(line in shown for shown in advice_lines(check_output(args, capsys)))


def test_near_duplicates_both_trained_on_and_held_out(
    tmp_path: Path, small: Flags, capsys: Capture
) -> None:
    """Each paper's answers occur, slightly changed, in another paper."""
    rows = sample_rows()[:60]
    copies = [
        row | {"answer": f"{row['answer']} So.", "file_name": f"copy of {row['file_name']}"}
        for row in rows
    ]
    for copy in copies:
        copy["question"] = f"{copy['id']}?"
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [*rows, *copies])
    text = check_output([str(pairs), *small], capsys)
    assert row_of(text, "near-duplicate answers") == ["60", "50.0%", "1 and 61"]
    (line,) = [line for line in advice_lines(text) if "held-out rows have" in line]
    held_out = int(row_of(text, "held out")[0].split()[0])
    assert 0 < int(line.split()[1]) <= held_out
