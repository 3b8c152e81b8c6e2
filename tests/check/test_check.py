from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reader import Reader
from runs import FinishedRun
from tiny import MULTILINGUAL, SAMPLE, sample_rows, write_jsonl
from transformers import AutoTokenizer

from embedft.check.measures import measure_data
from embedft.cli.main import main
from embedft.data import datamodule
from embedft.data.load import read_settings
from embedft.table.table import Table, read_table
from embedft.training.module import EmbeddingModule

Capture = pytest.CaptureFixture[str]
Flags = list[str]

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/checking.md").read_text(encoding="utf-8")


@pytest.fixture
def small(tiny_model: Path) -> Flags:
    """What makes a check fast, and the same on every machine."""
    return [f"--base_model={tiny_model}", "--accelerator=cpu", "--precision=32-true"]


def said(args: Flags, capsys: Capture) -> str:
    """What a check that ends well prints."""
    capsys.readouterr()
    main(["check", *args])
    return capsys.readouterr().out


def fails(args: Flags, capsys: Capture) -> str:
    """The message of a command line that is refused."""
    return refused(args[1:], capsys, args[0])[1]


def refused(args: Flags, capsys: Capture, command: str = "check") -> tuple[str, str]:
    """What a command line that ends with status 2 prints, and its message."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main([command, *args])
    assert error.value.code == 2
    output = capsys.readouterr()
    return output.out, output.err.removeprefix("embedft: error: ").rstrip("\n")


def row_of(text: str, name: str) -> list[str]:
    """The cells after the first in a printed table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def advice(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("- ")]


# What is counted.


def odd_rows() -> list[dict[str, Any]]:
    """20 rows of four papers and 14 that each show one thing; lines are counted from 1."""
    rows = sample_rows()[:20]
    answer = rows[7]["answer"]
    rows[2]["question"] = (
        "In the study of these samples at low temperature, which of the three methods gave the "
        "best result of all?"
    )
    return [
        *rows,
        {**rows[0], "id": "another"},  # 21: but for the id, line 1
        {**rows[1], "question": rows[1]["question"].upper(), "file_name": "b.pdf"},  # 22: line 2
        {**rows[2], "question": f"{rows[2]['question']} Please?", "answer": "It does."},  # 23
        {"question": "What else is said here?", "answer": f"{answer} Indeed."},  # 24: line 8
        {"question": "What is a b c d e f g?", "answer": "What is a b c d e f is an h."},  # 25
        {"question": "Wie alt ist der Baum im Garten?", "answer": "Er ist hundert Jahre alt."},
    ]


def test_each_kind_is_counted(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", odd_rows())
    text = said([str(pairs), *small], capsys)
    assert f"{pairs}: 26 rows, 0 bad, 25 used" in text
    expected = {
        "exact duplicates, dropped": ["1", "3.8%", "1 and 21"],
        "repeated questions": ["1", "4.0%", "2 and 22"],
        "repeated answers": ["1", "4.0%", "2 and 22"],
        "near-duplicate questions": ["1", "4.2%", "3 and 23"],
        "near-duplicate answers": ["1", "4.2%", "8 and 24"],
        "questions with several answers": ["0", "0.0%", ""],
        "questions that several files answer": ["1", "4.2%", "2 and 22"],
        "questions copied from the answer": ["1", "4.0%", "25"],
        "rows without a file_name": ["3", "12.0%", "24"],
    }
    assert {name: row_of(text, name) for name in expected} == expected
    assert "files: 5, with 1 to 6 pairs each, median 5" in text
    assert "languages: en 96.2%, de 3.8%; unknown tokens " in text


def test_several_answers(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """The same question, twice with the same answer and twice with others."""
    rows = sample_rows()[:20]
    for place, answer in ((5, rows[0]["answer"]), (10, "One."), (15, "Two.")):
        rows[place] |= {"question": rows[0]["question"], "answer": answer}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    _, error = refused([str(pairs), *small], capsys)
    assert error.startswith("all 20 rows share files, questions or answers")
    rows += sample_rows()[20:40]
    text = said([str(write_jsonl(pairs, rows)), *small], capsys)
    assert row_of(text, "questions with several answers") == ["1", "2.7%", "1 and 11"]
    assert row_of(text, "questions that several files answer") == ["1", "2.7%", "1 and 6"]
    assert "the largest has 50.0% of the rows" in text
    assert any("one group holds 50% of the rows" in line for line in advice(text))


def test_lengths_are_the_tokenizers(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*sample_rows()[:40], *sample_rows(MULTILINGUAL)]
    rows[3]["answer"] = rows[4]["answer"] = "long " * 3000
    rows[5]["context"] = ""
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    module = EmbeddingModule(str(tiny_model))
    settings = read_settings(module.encoder, "answer", context_required=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    data = measure_data(str(pairs), "answer", settings, tokenizer.unk_token_id)
    texts = {
        "questions": [row["question"] for row in rows],
        "answers": [row["answer"] for row in rows],
        "contexts": [row["context"] for row in rows if row.get("context")],
    }
    for name, some in texts.items():
        ids = tokenizer(sorted(set(some)), truncation=False, verbose=False)["input_ids"]
        expected = np.array([len(own) for own in ids])
        assert sorted(data.tokens[name].tolist()) == sorted(expected.tolist())
        for limit in (16, 48, 3001, 3002):
            assert data.share_longer(name, limit) == pytest.approx((expected > limit).mean())
    distinct = [text for some in texts.values() for text in dict.fromkeys(some)]
    every = [token for ids in tokenizer(distinct, verbose=False)["input_ids"] for token in ids]
    assert data.unknown_share == pytest.approx(every.count(tokenizer.unk_token_id) / len(every))


def test_check_and_fit_and_their_pages_say_one_share_of_cut_texts(
    fit: Callable[..., Path], fit_flags: Flags, pairs: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = sample_rows()[:60]
    rows[3]["answer"] = rows[4]["answer"] = "It is."  # one text, which counts once
    write_jsonl(pairs, rows)
    page = tmp_path / "check.html"
    text = said([*fit_flags, f"--html={page}"], capsys)
    out = fit("--trainer.max_steps=1")
    cut = json.loads((out / "metrics.json").read_text())["data"]["texts_cut"]
    questions, answers = re.findall(r"(\d+\.\d% of the \w+)", cut)
    assert answers == f"{58 / 59:.1%} of the answers"
    assert cut == f"max_seq_length 48 cuts {questions} and {answers}"
    assert cut in capsys.readouterr().out.splitlines()
    assert cut in (out / "report.html").read_text()
    assert f"- texts_cut: {cut}" in (out / "best_model" / "README.md").read_text()
    for share in (questions, answers):
        assert f"- max_seq_length 48 cuts {share}: " in text
        assert f"; max_seq_length 48 cuts {share} (dashed" in page.read_text()


def test_bad_rows_are_all_named_or_counted(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl", [*sample_rows()[:40], *[{"question": "q"} for _ in range(23)]]
    )
    text, error = refused([str(pairs), *small], capsys)
    named = re.findall(rf"^{pairs}:(\d+): answer: missing", text, re.MULTILINE)
    assert named == [str(line) for line in range(41, 61)]
    assert "... and 3 more bad rows" in text
    assert f"{pairs}: 63 rows, 23 bad, 40 used" in text
    assert "| trained on " in text  # and what fit would do without them
    assert error.startswith(f"{pairs}: 23 of 63 rows are bad, so fit refuses it")
    assert "--on_bad_rows skip" in error
    assert "23 bad" in said([str(pairs), *small, "--on_bad_rows=skip"], capsys)


def test_rows_that_share_an_id_are_named(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    rows = [
        {name: value for name, value in row.items() if name != "id"} for row in sample_rows()[:40]
    ]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [*rows[:3], rows[3] | {"id": "5"}, *rows[4:]])
    text = said([str(pairs), *small], capsys)
    assert text.count(f"warning: {pairs}:5: id: duplicate id (same as line 4; the id") == 1


REFUSED: dict[str, list[dict[str, Any]]] = {
    "empty": [],
    "one row": sample_rows()[:1],
    "two rows": sample_rows()[:10:5],
    "one file": sample_rows()[:5],
    "all bad": [{"question": "q"}, {"answer": 1}],
    "labels on some": [{**row, "label": 1} for row in sample_rows()[:20]] + sample_rows()[20:30],
    "no right answer": [{**row, "label": 0} for row in sample_rows()[:20]],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_fit_refuses(name: str, tmp_path: Path, small: Flags, capsys: Capture) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", REFUSED[name])
    text, error = refused([str(pairs), *small], capsys)
    flags = [f"--input_jsonl={pairs}", *small, f"--output_dir={tmp_path}/out"]
    assert error == fails(["fit", *flags], capsys)
    if name not in ("empty", "all bad"):  # the rest of the report is there all the same
        assert "| repeated answers " in text
    assert "To train" not in text


def test_without_a_model(pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    """The file is looked at all the same, and the page written."""
    page = tmp_path / "page.html"
    text, error = refused([str(pairs), "--base_model=none/there", f"--html={page}"], capsys)
    assert "60 rows, 0 bad, 60 used" in text
    assert row_of(text, "repeated answers")[0] == "0"
    assert error.startswith("base_model none/there: not found")
    assert "base_model none/there: not found" in page.read_text("utf-8")


@pytest.mark.parametrize("script", ["zh", "hi", "th"])
def test_scripts_without_blanks(script: str, tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """A question that its answer repeats is found where no blank parts the words."""
    question = {
        "zh": "硅负极为什么会损失容量",
        "hi": "सिलिकॉन एनोड की क्षमता क्यों घटती है",
        "th": "ทำไมขั้วบวกซิลิคอนจึงสูญเสียความจุ",
    }[script]
    rows = sample_rows()[:20]
    rows[4] |= {"question": f"{question}?", "answer": f"{question}, 100%."}
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    text = said([str(pairs), *small], capsys)
    assert row_of(text, "questions copied from the answer") == ["1", "5.0%", "5"]
    assert f"{script} 5.0%" in text


# What fit would do.

RUNS = {
    "plain": [],
    "accumulated": ["--trainer.accumulate_grad_batches=3"],
    "cut short": ["--trainer.max_steps=5", "--warmup_steps=4"],
    "drawn negatives": ["--loss_function=contrastive"],
    "contexts": ["--data.positive=both", "--data.topic_batches=true"],
    "another split": ["--train_split=0.5", "--data.split_seed=3", "--epochs=3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_run_is_that_of_fit(
    name: str,
    fit: Callable[..., Path],
    fit_flags: Flags,
    capsys: Capture,
    tmp_path: Path,
) -> None:
    text = said([*fit_flags, *RUNS[name]], capsys)
    fit(*RUNS[name])
    log = capsys.readouterr().out
    split = re.search(
        r"split: (\d+) rows to train on \((\d+) groups\), (\d+) held out \((\d+)", log
    )
    steps = re.search(r"schedule: (\d+) steps, (\d+) of them warm-up", log)
    assert split is not None
    assert steps is not None
    assert row_of(text, "trained on") == [f"{split[1]} rows"]
    assert row_of(text, "held out")[0].startswith(f"{split[3]} rows: ")
    assert row_of(text, "groups")[0].startswith(f"{int(split[2]) + int(split[4])}, ")
    shown = re.match(r"(\d+) of \d+ pairs \(\d+ epochs\), (\d+) of them", row_of(text, "steps")[0])
    assert shown is not None
    assert shown.groups() == steps.groups()
    evaluations = re.search(r"(\d+) evaluations", row_of(text, "time")[0])
    assert evaluations is not None
    lines = (tmp_path / "out" / "training_metrics.jsonl").read_text("utf-8").splitlines()
    assert int(evaluations[1]) == sum("val/loss" in line for line in lines)


def test_nothing_is_written(
    fit_flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Neither where it runs, nor in the output folder, nor in the cache."""
    desk, temporary = tmp_path / "desk", tmp_path / "temporary"
    desk.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    said([*fit_flags, "--output_dir=out"], capsys)
    assert list(desk.iterdir()) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_the_config_of_a_fit_is_checked(
    finished_run: FinishedRun, fit_flags: Flags, capsys: Capture
) -> None:
    config = finished_run.folder / "config.yaml"
    expected = said(fit_flags, capsys)
    text = said(["--config", str(config)], capsys)
    for name in ("trained on", "held out", "steps"):
        assert row_of(text, name) == row_of(expected, name)


def test_several_devices(fit_flags: Flags, capsys: Capture) -> None:
    text = said([*fit_flags, "--devices=2", "--strategy=ddp"], capsys)
    assert row_of(text, "steps")[0].startswith("8 of 16 pairs")
    assert "on each of 2 devices" in row_of(text, "time")[0]


def test_the_file_is_read_once(
    fit_flags: Flags, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though both training and embedding are timed, by Lightning's Trainer."""
    read: list[str] = []

    def counted(path: str, *rest: Any) -> Table:
        read.append(path)
        return read_table(path, *rest)

    monkeypatch.setattr(datamodule, "read_table", counted)
    said([*fit_flags, "--data.positive=context"], capsys)
    assert len(read) == 1


def test_evaluations_by_the_clock(fit_flags: Flags, capsys: Capture) -> None:
    flags = ["--trainer.val_check_interval=00:00:10:00", "--trainer.check_val_every_n_epoch=null"]
    assert row_of(said([*fit_flags, *flags], capsys), "steps")[0].startswith("14 ")


def test_a_validation_file(fit_flags: Flags, pairs: Path, tmp_path: Path, capsys: Capture) -> None:
    own = write_jsonl(tmp_path / "own.jsonl", sample_rows()[50:75])
    text = said([*fit_flags, f"--validation_jsonl={own}"], capsys)
    assert row_of(text, "trained on") == ["50 rows"]
    assert row_of(text, "held out")[0].startswith("a separate validation file: 25 questions")


# Advice.


def padded(words: int) -> list[dict[str, Any]]:
    """60 rows with answers of so many words more."""
    return [row | {"answer": row["answer"] + " word" * words} for row in sample_rows()[:60]]


def same_answers() -> list[dict[str, Any]]:
    return [row | {"answer": "No."} if i > 52 else row for i, row in enumerate(sample_rows()[:60])]


def near_answers() -> list[dict[str, Any]]:
    rows = sample_rows()[:60]
    return [row | {"answer": f"{rows[i % 55]['answer']} It is."} for i, row in enumerate(rows)] + [
        {**row, "question": f"And {row['id']}?", "file_name": f"{row['id']}.pdf"}
        for row in rows[:5]
    ]


def copied() -> list[dict[str, Any]]:
    return [row | {"question": row["answer"][:60]} for row in sample_rows()[:60]]


ROWS = sample_rows()[:60]
ADVICE = {
    "batch": (ROWS, ["--batch_size=64"], "more than the", "--batch_size=8"),
    "warm-up": (ROWS, ["--warmup_steps=500"], "--warmup_steps auto", "--warmup_steps=auto"),
    "cut": (padded(20), [], "--max_seq_length 64", "--max_seq_length=64"),
    "hopeless": (padded(900), [], "split them into passages", None),
    "rate": (ROWS, [], "--config configs/recommended.yaml", "--learning_rate=1e-4"),
    "epochs": (ROWS, ["--epochs=8", "--learning_rate=1e-4"], "--epochs 3", "--epochs=3"),
    "few held out": (ROWS, ["--train_split=0.9"], "--train_split 0.8", "--train_split=0.8"),
    "one answer": (same_answers(), [], "7 rows have the answer of line 54", None),
    "near answers": (near_answers(), [], "answers are near-duplicates of another", None),
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
    "by topic": (
        [*ROWS, *[row | {"answer": f"No. {i}"} for i, row in enumerate(ROWS[:15])]],
        ["--data.topic_batches=true"],
        "--data.topic_batches false",
        "--data.topic_batches=false",
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_comes_and_goes(name: str, tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """A fault gets its line, which says what to type; who types that gets it no more."""
    rows, flags, line, instead = ADVICE[name]
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    args = [str(pairs), *small, *flags]
    assert sum(line in said for said in advice(said(args, capsys))) >= 1
    if instead is None:
        good = [row | {"answer": f"It is {i}."} for i, row in enumerate(sample_rows()[:60])]
        others = write_jsonl(tmp_path / "good.jsonl", good)
        args = [str(others), *small]
    else:
        args.append(instead)
    assert not any(line in said for said in advice(said(args, capsys)))


def test_near_duplicates_on_both_sides(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    """Each paper's answers stand, slightly changed, in another paper."""
    rows = sample_rows()[:60]
    copies = [
        row | {"answer": f"{row['answer']} So.", "file_name": f"copy of {row['file_name']}"}
        for row in rows
    ]
    for copy in copies:
        copy["question"] = f"{copy['id']}?"
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [*rows, *copies])
    text = said([str(pairs), *small], capsys)
    assert row_of(text, "near-duplicate answers") == ["60", "50.0%", "1 and 61"]
    (line,) = [line for line in advice(text) if "held-out rows have" in line]
    held_out = int(row_of(text, "held out")[0].split()[0])
    assert 0 < int(line.split()[1]) <= held_out


# The command line and the page.


def test_the_file_stands_anywhere(pairs: Path, small: Flags, capsys: Capture) -> None:
    first = said([str(pairs), *small, "--epochs", "2"], capsys)
    last = said([*small, "--epochs", "2", str(pairs)], capsys)
    assert row_of(first, "steps") == row_of(last, "steps")
    assert "unrecognized arguments: other.jsonl" in fails(
        ["check", str(pairs), "other.jsonl"], capsys
    )
    assert "--input_jsonl" in fails(["check", *small], capsys)


def test_page(tmp_path: Path, small: Flags, capsys: Capture) -> None:
    rows = odd_rows()
    hostile = "<script>alert('ü')</script> & \"$x$\" $\\frac{"
    rows[21]["question"] = rows[1]["question"] = hostile
    rows[3]["file_name"] = hostile
    pairs = write_jsonl(tmp_path / "pairs.jsonl", rows)
    page = tmp_path / "new" / "page.html"
    text = said([str(pairs), *small, f"--html={page}"], capsys)
    assert text.rstrip().endswith(f"page: {page}")
    html = page.read_text("utf-8")
    reader = Reader()
    reader.feed(html)
    assert "script" not in reader.tags
    assert reader.tags.count("svg") == 6  # three lengths, pairs a file, copied, languages
    assert hostile in reader.text
    for line in advice(text):
        assert line in reader.text
    assert 'src="http' not in html
    assert [p.name for p in page.parent.iterdir()] == ["page.html"]
    message = fails(["check", str(pairs), *small, f"--html={page}"], capsys)
    assert message == f"{page}: exists already; give another --html or --overwrite"
    said([str(pairs), *small, f"--html={page}", "--overwrite"], capsys)


def settled(text: str) -> list[str]:
    """Lines without what differs from machine to machine: times, widths, where the model is."""
    lines = []
    for line in text.strip().splitlines():
        line = re.sub(r"about .*", "about", line) if line.startswith("| time") else line
        line = re.sub(r"\s+\|", " |", re.sub(r"-{3,}", "---", line))
        if not line.startswith(("base model ", "precision auto")):
            lines.append(line)
    return lines


@pytest.mark.slow
def test_transcript(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The document shows what is printed, and names every line of advice's subject."""
    monkeypatch.chdir(ROOT)
    command, shown = re.findall(r"```(?:bash|text)\n(.*?)```", DOCUMENT, re.DOTALL)[:2]
    assert SAMPLE.relative_to(ROOT).as_posix() in command
    args = command.split()
    assert args[:4] == ["python", "-m", "embedft", "check"]
    assert settled(said(args[4:], capsys)) == settled(shown)
