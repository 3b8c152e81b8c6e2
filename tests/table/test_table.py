from __future__ import annotations

import json
import logging
import os
import random
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import read_records
from tiny import sample_rows, with_negatives, write_jsonl
from tokenizers import Tokenizer

from embedft.data.pairs import encode_pairs, row_hashes
from embedft.data.plan import plan_epoch
from embedft.data.split import split_rows
from embedft.data.task import retrieval_task
from embedft.errors import InputError
from embedft.table.record import normalize_text
from embedft.table.settings import ReadSettings
from embedft.table.table import Table, read_table

Row = dict[str, Any]

COLUMNS = [
    "question",
    "answer",
    "context",
    "question_hash",
    "answer_hash",
    "context_hash",
    "file_hash",
    "label",
    "duplicate",
]


def left_in(cache: Path) -> list[str]:
    """What lies in a cache but for the locks, which stay."""
    return [name for name in os.listdir(cache) if not name.endswith(".lock")]


def untidy_rows() -> list[Row]:
    """Repeats near and far, contexts, files, separators that end no line."""
    rng = random.Random(0)
    rows = [dict(row) for row in sample_rows()[:120]]
    for number, row in enumerate(rows):
        row |= {"file_name": f"{number // 5}.pdf", "context": f"Passage\u2028{number // 3}."}
        if number % 7 == 0:
            del row["context"]
    rows = with_negatives(rows)
    rows += [row | {"id": f"again {i}"} for i, row in enumerate(rng.sample(rows, 40))]
    rows += [
        row | {"id": f"upper {i}", "question": row["question"].upper()}
        for i, row in enumerate(rng.sample(rows, 20))
    ]
    return rows


@pytest.mark.parametrize("block_bytes", [150, 1 << 20])
def test_rows_that_share_an_id_are_named_by_line(
    settings: ReadSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture, block_bytes: int
) -> None:
    """Also where an id is the line number of a row without one, and once only, from the cache too."""

    def said(ids: list[Any], *more: Row) -> list[str]:
        rows = [
            row | {"id": own} if own is not None else row
            for row, own in zip(plain, ids, strict=True)
        ]
        path = write_jsonl(tmp_path / "ids.jsonl", [*rows, *more])
        for _ in range(2):
            caplog.clear()
            read_table(str(path), settings, tmp_path / "cache", block_bytes=block_bytes)
            found = [record for record in caplog.records if record.levelno == logging.WARNING]
        return [str(record.message).removeprefix(f"{path}:") for record in found]

    plain = [{"question": f"q {i}", "answer": f"a {i}"} for i in range(6)]
    assert said([None] * 6) == []
    assert said(["a", None, "1", "d", "e", 7]) == []
    (message,) = said([None, None, None, "5", None, None])
    assert message.startswith(
        "5: id: duplicate id (same as line 4; the id of a row without one is its line number)."
    )
    (message,) = said(["a", "b", "a", None, 4, "b"])
    assert message.startswith("3: id: duplicate id (same as line 1; 2 more duplicates;")
    assert said(["a", "b", "c", "d", "e", "f"], plain[0] | {"id": "a"}) == [], "a duplicate"


def ids_of(table: Table, text: int) -> list[int]:
    ids, _ = table.tokens.pack(np.array([text]))
    return [int(token) for token in ids]


def same(a: Table, b: Table) -> bool:
    for name in COLUMNS:
        first, second = getattr(a, name), getattr(b, name)
        if (first is None) != (second is None):
            return False
        if first is not None and not np.array_equal(first, second, equal_nan=name == "label"):
            return False
    assert a.negatives is not None
    assert b.negatives is not None
    for name in ("text", "key", "offsets"):
        if not np.array_equal(getattr(a.negatives, name), getattr(b.negatives, name)):
            return False
    places = [np.arange(len(table.tokens.ids)) for table in (a, b)]
    return (
        a.counts == b.counts
        and np.array_equal(a.tokens.offsets, b.tokens.offsets)
        and np.array_equal(a.tokens.cut, b.tokens.cut)
        and np.array_equal(a.tokens.ids[places[0]], b.tokens.ids[places[1]])
    )


def test_a_table_holds_what_the_records_say(tmp_path: Path, settings: ReadSettings) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", untidy_rows())
    for block_bytes in (500, 1 << 20):
        table = read_table(str(path), settings, None, block_bytes=block_bytes)
        for drop in (True, False):
            records, report = read_records(path, drop_duplicates=drop)
            assert table.read_counts(drop_duplicates=drop) == report
            rows = table.kept(drop_duplicates=drop)
            assert len(rows) == len(records)
        assert report.duplicates == 0
        tokenizer = tiny_ids(settings)
        assert table.answer is not None
        assert table.context is not None
        assert table.negatives is not None
        for row, record in zip(rows.tolist(), records, strict=True):
            assert ids_of(table, table.question[row]) == tokenizer(record.question)
            assert ids_of(table, table.answer[row]) == tokenizer(record.answer)
            assert (table.context[row] < 0) == (not record.context)
            if record.context:
                assert ids_of(table, table.context[row]) == tokenizer(record.context)
            negatives = table.negatives.of(np.array([row])).text
            assert [ids_of(table, text) for text in negatives] == [
                tokenizer(text) for text in record.negatives
            ]
        for column, key, texts in (
            (table.question, table.question_hash, [r.question for r in records]),
            (table.answer, table.answer_hash, [r.answer for r in records]),
        ):
            assert len(set(column.tolist())) == len(set(texts))  # each text once
            assert len(set(key.tolist())) == len({normalize_text(text) for text in texts})
        assert len(set(table.file_hash.tolist())) == len({r.file_name for r in records})


def tiny_ids(settings: ReadSettings) -> Any:
    tokenizer = Tokenizer.from_str(settings.tokenizer)
    tokenizer.enable_truncation(settings.max_seq_length)
    return lambda text: tokenizer.encode(text).ids


def test_processes_read_what_one_reads(tmp_path: Path, settings: ReadSettings) -> None:
    path = str(write_jsonl(tmp_path / "p.jsonl", untidy_rows()))
    one = read_table(path, settings, None, block_bytes=3000, workers=0)
    two = read_table(path, settings, tmp_path / "cache", block_bytes=3000, workers=2)
    assert same(one, two)
    assert one.tokens.fingerprint == two.tokens.fingerprint
    cached = read_table(path, settings, tmp_path / "cache")
    assert same(two, cached)
    assert len(left_in(tmp_path / "cache")) == 1


def test_duplicates_far_apart_are_found(tmp_path: Path, settings: ReadSettings) -> None:
    rows = [{"question": f"q{i}", "answer": f"a{i}", "label": 0} for i in range(200)]
    rows[150] = rows[3] | {"id": 9, "label": -0.0}
    rows[170] = rows[3] | {"label": 1}  # another label: another row
    rows[175] = rows[3] | {"negatives": ["n"]}  # likewise
    rows[176] = rows[3] | {"negatives": ["n", "m"]}
    rows[180] = {"question": " Q7", "answer": "A8 ", "label": 0}
    table = read_table(
        str(write_jsonl(tmp_path / "p.jsonl", rows)), settings, None, block_bytes=100, workers=2
    )
    assert np.flatnonzero(table.duplicate).tolist() == [150]
    report = table.read_counts(drop_duplicates=True)
    assert (report.duplicates, report.repeated_questions, report.repeated_answers) == (1, 4, 4)
    assert table.question_hash[180] == table.question_hash[7]
    assert table.question[150] == table.question[170] == table.question[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_rows_in_any_block_have_their_line(
    tmp_path: Path, settings: ReadSettings, workers: int
) -> None:
    lines = [json.dumps({"question": f"q{i}", "answer": "a"}) for i in range(1, 101)]
    bad = [*range(5, 100, 4), 100]
    for line in bad[:-1]:
        lines[line - 1] = "{}" if line % 8 == 5 else "\n[]"  # a blank line moves the rest
    content = "\n".join(lines)[:-2]
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as expected:
        read_records(path)
    with pytest.raises(InputError) as error:
        read_table(str(path), settings, tmp_path / "c", block_bytes=150, workers=workers)
    assert str(error.value) == str(expected.value)
    assert str(error.value).count("\n") == 21
    assert "25 of 100 rows are bad" in str(error.value)
    assert left_in(tmp_path / "c") == []  # nothing is kept of a file that is refused
    table = read_table(
        str(path), settings, tmp_path / "c", "skip", block_bytes=150, workers=workers
    )
    assert table.read_counts(drop_duplicates=True) == read_records(path, "skip")[1]
    with pytest.raises(InputError) as again:  # the cache knows of them
        read_table(str(path), settings, tmp_path / "c")
    assert str(again.value) == str(expected.value)


def test_a_cut_off_last_line_is_recognised(tmp_path: Path, settings: ReadSettings) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n' * 9 + '{"question": "q", "ans')
    with pytest.raises(InputError, match=r":10: row: not valid JSON: .*was it cut off"):
        read_table(str(path), settings, None, block_bytes=64, workers=0)


def test_labels_on_all_rows_or_none(tmp_path: Path, settings: ReadSettings) -> None:
    rows = [{"question": f"q{i}", "answer": "a", "label": 1} for i in range(30)]
    del rows[25]["label"]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    with pytest.raises(InputError) as expected:
        read_records(path)
    table = read_table(str(path), settings, None, block_bytes=200)
    with pytest.raises(InputError) as error:
        table.kept(drop_duplicates=True)
    assert str(error.value) == str(expected.value)
    assert ":26: label: missing, while 29 of 30 rows" in str(error.value)


def test_the_cache_is_keyed_by_all_that_matters(tmp_path: Path, settings: ReadSettings) -> None:
    cache = tmp_path / "cache"
    path = write_jsonl(tmp_path / "p.jsonl", untidy_rows())
    changed = [
        settings,
        replace(settings, max_seq_length=23),
        replace(settings, query_prompt="query: "),
        replace(settings, document_prompt="query: "),
        replace(settings, lower_case=True),
        replace(settings, truncation_side="left"),
        replace(settings, documents="answer"),
        replace(settings, negatives=False),
        replace(settings, tokenizer=settings.tokenizer.replace('"##e"', '"##€"')),
    ]
    fingerprints = {
        read_table(str(path), each, cache).tokens.fingerprint for each in (*changed, settings)
    }
    assert len(fingerprints) == len(left_in(cache)) == len(changed)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"silicon", b"Silicon", 1))
    read_table(str(path), settings, cache)
    assert len(left_in(cache)) == len(changed) + 1
    moved = path.rename(tmp_path / "moved.jsonl")
    moved.write_bytes(content)
    assert read_table(str(moved), settings, cache).path == str(moved)
    assert len(left_in(cache)) == len(changed) + 1


def test_prompts_are_tokenised_with_their_texts(tmp_path: Path, settings: ReadSettings) -> None:
    rows = [{"question": "same", "answer": "same"}, {"question": "q", "answer": "same"}]
    path = str(write_jsonl(tmp_path / "p.jsonl", rows))
    plain = read_table(path, settings, None)
    prompted = read_table(path, replace(settings, query_prompt="What? ", lower_case=True), None)
    tokenizer = tiny_ids(settings)
    assert plain.answer is not None
    assert prompted.answer is not None
    assert plain.question[0] == plain.answer[0] == plain.answer[1]
    assert prompted.answer[0] == prompted.answer[1] != prompted.question[0]
    assert ids_of(prompted, prompted.question[0]) == tokenizer("what? same")
    assert ids_of(prompted, prompted.answer[0]) == tokenizer("same")


@pytest.mark.parametrize(
    "name", ["ids.bin", "offsets.bin", "cut.bin", "question.bin", "duplicate.bin", "table.json"]
)
@pytest.mark.parametrize("keep", [None, 0, 9, -1])
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, settings: ReadSettings, name: str, keep: int | None
) -> None:
    path = str(write_jsonl(tmp_path / "p.jsonl", untidy_rows()))
    cache = tmp_path / "cache"
    first = read_table(path, settings, cache)
    file = cache / first.tokens.fingerprint / name
    content = file.read_bytes()
    if keep is None:
        file.unlink()
    else:  # a new file: an open map of the old one stays whole
        file.unlink()
        file.write_bytes(content[:keep])
    assert same(first, read_table(path, settings, cache))
    assert len(file.read_bytes()) == len(content)


def test_of_two_that_write_the_same_the_first_stays(
    tmp_path: Path, settings: ReadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_jsonl(tmp_path / "p.jsonl", untidy_rows()))
    cache = tmp_path / "cache"
    first = read_table(path, settings, cache)
    folder = cache / first.tokens.fingerprint
    before = folder.stat().st_ino
    monkeypatch.setattr("embedft.table.table._find", lambda *_: None)  # looked before it was there
    assert same(first, read_table(path, settings, cache))
    assert folder.stat().st_ino == before
    assert left_in(cache) == [folder.name]


def test_a_cache_that_cannot_be_written_is_one_warning(
    tmp_path: Path, settings: ReadSettings, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(write_jsonl(tmp_path / "p.jsonl", untidy_rows()))
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        table = read_table(path, settings, tmp_path / "file" / "cache")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "can't be written" in caplog.text
    assert same(table, read_table(path, settings, None))


def test_a_table_without_cache_leaves_nothing_behind(
    tmp_path: Path, settings: ReadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    path = write_jsonl(tmp_path / "p.jsonl", untidy_rows())
    table = read_table(str(path), settings, None)
    assert len(os.listdir(tmp_path / "t")) == 1
    del table
    assert os.listdir(tmp_path / "t") == []
    path.write_text("{}")
    with pytest.raises(InputError):
        read_table(str(path), settings, None)
    assert os.listdir(tmp_path / "t") == []


def test_a_file_that_is_new_is_read_once(tmp_path: Path, settings: ReadSettings) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", untidy_rows())
    os.mkfifo(tmp_path / "pipe")  # can be read once
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    writer.start()
    table = read_table(str(tmp_path / "pipe"), settings, tmp_path / "cache", workers=0)
    writer.join()
    assert same(table, read_table(str(path), settings, None))


def peak_of_loading(path: Path, settings: ReadSettings) -> int:
    """Bytes at most in memory, from the file to the plan of an epoch."""
    tracemalloc.start()
    table = read_table(str(path), settings, None, block_bytes=1 << 16, workers=0)
    rows = table.kept(drop_duplicates=True)
    split = split_rows(row_hashes(table, rows), 0.9, 42)
    data, held_out = encode_pairs(
        (table, rows[split.train]), (table, rows[split.validation]), "answer"
    )
    retrieval_task(data, held_out)
    plan_epoch(data.anchor_id, data.positive_id, batch_size=16, seed=0, epoch=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_grows_by_less_than_200_bytes_a_row(tmp_path: Path, settings: ReadSettings) -> None:
    """With repeated texts and files, where most is to be done; a row's text is far longer.

    Of few words: those that a tokenizer knows are kept, up to a fixed number.
    """
    passage = " ".join(["word"] * 40)

    def spelled(number: int) -> str:
        return " ".join(str(number))

    sizes = (8_000, 24_000)
    peaks = []
    for size in sizes:
        rows = [
            {
                "question": f"{spelled(i % (size - 50))} {passage}",
                "answer": spelled(i // 2),
                "file_name": f"{i // 3}",
            }
            for i in range(size)
        ]
        peaks.append(
            peak_of_loading(
                write_jsonl(tmp_path / f"{size}.jsonl", rows), replace(settings, documents="answer")
            )
        )
    growth = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    assert 8 < growth < 200


def test_two_at_once_read_once(
    tmp_path: Path, settings: ReadSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """As the ranks of torchrun do: the second waits, and finds what the first has read."""
    caplog.set_level(logging.INFO, logger="embedft")
    path = write_jsonl(tmp_path / "p.jsonl", sample_rows())
    threads = [
        threading.Thread(target=read_table, args=(str(path), settings, tmp_path / "cache"))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "from the cache" in line]) == 3
    assert len(left_in(tmp_path / "cache")) == 1
