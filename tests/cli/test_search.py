"""Search finds what sentence-transformers finds, from an index that can't be stale."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import fails
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search
from tiny import MINILM, SAMPLE, sample_rows, write_jsonl

import embedft
from embedft.cli.main import main
from embedft.encoder.base_model import find_base_model
from embedft.errors import InputError
from embedft.inference.embedding_file import EmbeddingFile
from embedft.table.keys import Ints

Capture = pytest.CaptureFixture[str]
QUESTIONS = ["How was the dust grain formed?", "Why do anodes swell?", "¿Qué es esto? 量子"]


@pytest.fixture
def flags(tiny_model: Path, pairs: Path, tmp_path: Path) -> list[str]:
    return [
        f"--model={tiny_model}",
        f"--input_jsonl={pairs}",
        f"--index_dir={tmp_path / 'indexes'}",
        "--precision=32-true",
    ]


@pytest.fixture
def search(flags: list[str], capsys: Capture) -> Callable[..., str]:
    """What the command line prints; later flags win."""

    def run(*args: str) -> str:
        capsys.readouterr()
        main(["search", *flags, *args])
        return capsys.readouterr().out

    return run


@pytest.fixture
def no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: EmbeddingFile, *args: Any) -> None:
        raise AssertionError("embeds again")

    monkeypatch.setattr(EmbeddingFile, "fill", refuse)


def as_json(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.split("\n")[:-1]]


PROMPTS = {"query": "question: ", "document": "passage: ", "other": "something else "}


@pytest.mark.parametrize(
    ("prompts", "default", "normalize"),
    [
        ({}, None, False),
        (PROMPTS, None, True),
        (PROMPTS, "other", True),
        ({"x": "it is "}, "x", True),
    ],
    ids=["none", "both", "both-and-default", "default"],
)
def test_as_sentence_transformers(
    tmp_path: Path,
    search: Callable[..., str],
    prompts: dict[str, str],
    default: str | None,
    normalize: bool,
) -> None:
    """The model's prompts included: the same ids and scores as its encode and semantic_search."""
    folder = tiny.build(tmp_path / "model", prompts=prompts, normalize=normalize)
    settings = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    _compare_with_sentence_transformers(folder, SAMPLE, search)


def test_as_sentence_transformers_with_real_weights(
    tmp_path: Path, search: Callable[..., str]
) -> None:
    pairs = write_jsonl(tmp_path / "few.jsonl", sample_rows()[:80])
    _compare_with_sentence_transformers(find_base_model(MINILM).folder, pairs, search)


def _compare_with_sentence_transformers(
    folder: Path, pairs: Path, search: Callable[..., str]
) -> None:
    rows = list({row["answer"]: row for row in sample_rows(pairs)}.values())
    oracle = SentenceTransformer(str(folder), device="cpu")
    by_role = not oracle.default_prompt_name or oracle.prompts["query"]  # else all have the default
    found = semantic_search(
        (oracle.encode_query if by_role else oracle.encode)(QUESTIONS, convert_to_tensor=True),
        (oracle.encode_document if by_role else oracle.encode)(
            [row["answer"] for row in rows], convert_to_tensor=True
        ),
        top_k=7,
    )
    got = as_json(
        search(f"--model={folder}", f"--input_jsonl={pairs}", "--json", "--top_k=7", *QUESTIONS)
    )
    assert [line["question"] for line in got] == QUESTIONS
    for line, expected in zip(got, found, strict=True):
        hits = line["hits"]
        assert [hit["score"] for hit in hits] == pytest.approx(
            [other["score"] for other in expected], abs=1e-5
        )
        assert [hit["ids"] for hit in hits] == [[rows[o["corpus_id"]]["id"]] for o in expected]
        for hit, other in zip(hits, expected, strict=True):
            row = rows[other["corpus_id"]]
            assert (hit["text"], hit["file_names"]) == (row["answer"], [row["file_name"]])


def test_built_once(
    search: Callable[..., str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    first = search("--json", *QUESTIONS)
    request.getfixturevalue("no_embedding")
    assert search("--json", *QUESTIONS) == first
    moved = shutil.copy(tmp_path / "pairs.jsonl", tmp_path / "moved.jsonl")
    assert search("--json", f"--input_jsonl={moved}", *QUESTIONS) == first
    with pytest.raises(AssertionError, match="embeds again"):
        search("--precision=bf16-mixed", "question")


def test_never_stale(
    search: Callable[..., str], pairs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Another row, another word, other weights or pooling: another index."""

    def found() -> list[list[str]]:
        return [hit["ids"] for hit in as_json(search("--json", "--top_k=99", "dust"))[0]["hits"]]

    before = found()
    assert len(before) == 60
    rows = sample_rows(pairs)
    write_jsonl(pairs, [*rows, {"id": "new", "question": "Dust?", "answer": "dust"}])
    assert found()[0] == ["new"]
    write_jsonl(pairs, rows)
    assert found() == before
    rows[-1]["id"] = "r" + rows[-1]["id"][1:]  # as many bytes, the same texts
    write_jsonl(pairs, rows)
    assert [rows[-1]["id"]] in found()

    scores = {}
    for name, pooling, family in [
        ("a", "mean", "bert"),
        ("b", "cls", "bert"),
        ("c", "cls", "mpnet"),
    ]:
        model = tiny.build(tmp_path / "same-path", family, pooling=pooling)
        scores[name] = as_json(search("--json", f"--model={model}", "dust"))[0]["hits"][0]["score"]
        shutil.rmtree(model)
    assert len(set(scores.values())) == 3


@pytest.mark.parametrize("name", ["index.faiss", "documents.jsonl", "offsets.npy"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_index_is_made_anew(
    search: Callable[..., str], tmp_path: Path, name: str, damage: str
) -> None:
    first = search("--json", "dust")
    (path,) = (tmp_path / "indexes").glob(f"*/{name}")
    content = path.read_bytes()
    path.write_bytes(content[:-10] if damage == "cut" else b"")
    if damage == "gone":
        path.unlink()
    assert search("--json", "dust") == first
    assert path.read_bytes() == content


def test_a_stopped_embedding_goes_on(
    search: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = search("--json", "dust")
    embedded = 0
    put = EmbeddingFile.put

    def counting(self: EmbeddingFile, texts: Ints, embeddings: Any) -> None:
        nonlocal embedded
        if embedded == 24:
            embedded = 0
            raise KeyboardInterrupt
        embedded += len(texts)
        put(self, texts, embeddings)

    monkeypatch.setattr(EmbeddingFile, "put", counting)
    again = [f"--index_dir={tmp_path / 'other'}", "--eval_batch_size=8", "--json", "dust"]
    with pytest.raises(SystemExit):
        search(*again)
    folders = (tmp_path / "other").glob("[!.]*")
    assert not list(folders)  # nothing under a final name
    embedded = -100
    assert [hit["ids"] for hit in as_json(search(*again))[0]["hits"]] == [
        hit["ids"] for hit in as_json(whole)[0]["hits"]
    ]
    assert embedded == -100 + 60 - 24
    assert len([path for path in (tmp_path / "other").iterdir() if path.is_dir()]) == 1


def test_a_file_that_changes_while_it_is_embedded(
    flags: list[str], pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    fill = EmbeddingFile.fill

    def slow(self: EmbeddingFile, *args: Any) -> None:
        fill(self, *args)
        write_jsonl(pairs, sample_rows()[30:120])

    monkeypatch.setattr(EmbeddingFile, "fill", slow)
    assert "changed while it was read. Run the command again" in fails(
        ["search", *flags, "q"], capsys
    )
    assert not list((tmp_path / "indexes").glob("*/index.faiss"))


def test_equal_answers_are_one(search: Callable[..., str], tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "One?", "answer": "The  same Answer", "file_name": "x.pdf"},
        {"question": "Two?", "answer": "Something else\nover two\tlines"},
        {"id": "c", "question": "Three?", "answer": "The  same Answer", "file_name": "y.pdf"},
        {"id": "d", "question": "Four?", "answer": "The  same Answer", "file_name": "x.pdf"},
    ]
    path = write_jsonl(tmp_path / "same.jsonl", rows)
    (line,) = as_json(search(f"--input_jsonl={path}", "--json", "the same answer"))
    same, other = line["hits"]
    assert (same["ids"], same["file_names"]) == (["a", "c", "d"], ["x.pdf", "y.pdf"])
    assert same["text"] == "The  same Answer"
    assert (other["ids"], other["file_names"]) == (["2"], [])
    said = search(f"--input_jsonl={path}", "the same answer").splitlines()
    assert said[0] == "the same answer"
    assert said[1] == "  1   1.000  a +2  x.pdf +1  The same Answer"
    assert said[2].endswith("Something else over two lines")


def test_contexts(
    search: Callable[..., str], tmp_path: Path, flags: list[str], capsys: Capture
) -> None:
    rows = [
        {"question": f"{word}?", "answer": "No.", "context": f"A passage on {word}."}
        for word in ("dust", "anodes", "soil")
    ]
    path = write_jsonl(tmp_path / "contexts.jsonl", rows)
    some = [f"--input_jsonl={path}", "--json", "A passage on soil."]
    assert [hit["text"] for hit in as_json(search(*some))[0]["hits"]] == ["No."]
    best, *_ = as_json(search(*some, "--field=context"))[0]["hits"]
    assert (best["ids"], best["text"]) == (["3"], "A passage on soil.")
    write_jsonl(path, [*rows, {"question": "q", "answer": "a"}])
    message = fails(["search", *flags, "--field=context", *some], capsys)
    assert message == (
        f"{path}:4: context: missing or empty, needed by --field context. Fix them, or leave them "
        "out with --on_bad_rows skip"
    )
    assert len(as_json(search(*some, "--field=context", "--on_bad_rows=skip"))[0]["hits"]) == 3


HOSTILE = "\x1b[2J\x1b]0;title\x07red\u202edesrever\u200b [bold]tag[/bold] \x00\x9b31m"


def test_what_a_terminal_shows(
    search: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut to its width, wide letters counted; nothing that it would take for a command."""
    rows = [
        {
            "id": "i" * 90,
            "question": "a",
            "answer": "硅负极在锂化时膨胀" * 30,
            "file_name": "f" * 90,
        },
        {
            "id": HOSTILE,
            "question": "b",
            "answer": HOSTILE + "\u2028 and\r\nmore",
            "file_name": "\x1b",
        },
    ]
    path = write_jsonl(tmp_path / "odd.jsonl", rows)
    some = [f"--input_jsonl={path}", f"what {HOSTILE}"]
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = search(*some)
    assert whole.replace("\n", "").isprintable()
    assert "硅负极在锂化时膨胀" * 30 in whole  # a pipe loses nothing
    assert "reddesrever [bold]tag[/bold] 31m and more" in whole
    texts = [hit["text"] for hit in as_json(search(*some, "--json"))[0]["hits"]]
    assert rows[1]["answer"] in texts  # JSON has it as it is
    for columns in (20, 60, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        _, *lines = search(*some).splitlines()
        widths = [sum(1 + (letter > "\u2e80") for letter in line) for line in lines]
        assert all(width <= columns for width in widths)
        assert max(widths) >= columns - 1
        assert any("…" in line for line in lines)


def test_questions_from_standard_input(
    search: Callable[..., str], monkeypatch: pytest.MonkeyPatch, flags: list[str], capsys: Capture
) -> None:
    given = "\r\n  Why do anodes swell?\u2028Really? \n\n\ndust"

    def stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))

    stdin(given.encode())
    asked = [line["question"] for line in as_json(search("--json"))]
    assert asked == ["Why do anodes swell?\u2028Really?", "dust"]
    stdin(b"")
    assert search() == ""
    stdin(b"dust\n\xff\n")
    assert "standard input: is not UTF-8" in fails(["search", *flags], capsys)


@pytest.mark.parametrize("end", ["\n", "\x04", "quit\n", "exit\n"])
def test_a_prompt_on_a_terminal(
    search: Callable[..., str], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    master, terminal = os.openpty()
    with os.fdopen(terminal, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        os.write(master, f"Why do anodes swell?\n{end}".encode())
        said = search("--json", "--top_k=1")  # no prompt among the answers
    os.close(master)
    assert [line["question"] for line in as_json(said)] == ["Why do anodes swell?"]


def test_comparison_with_the_base_model(
    search: Callable[..., str], tiny_model: Path, tmp_path: Path, flags: list[str], capsys: Capture
) -> None:
    """The card names it; each answer has its rank by the other model."""
    tuned = tiny.build(tmp_path / "tuned", "mpnet")
    card = tuned / "README.md"
    card.write_text(f"---\nbase_model: {json.dumps(str(tiny_model))}\n---\n# A card\n")
    some = [f"--model={tuned}", "--top_k=3", "--compare", "Why do anodes swell?"]
    (line,) = as_json(search("--json", *some))
    assert line["compare"]["model"] == str(tiny_model)
    alone = as_json(search("--json", "--top_k=3", "Why do anodes swell?"))[0]["hits"]
    assert line["compare"]["hits"] == alone
    named = search("--json", *some[:2], f"--compare={tiny_model}", some[-1])
    assert as_json(named) == [line]
    question, by_tuned, *tuned_lines, by_base, first, second, third, _ = search(*some).split("\n")[
        :-1
    ]
    assert (question, by_tuned, by_base) == (some[-1], f"by {tuned}", f"by {tiny_model}")
    ranks = {hit["text"]: rank for rank, hit in enumerate(line["hits"], 1)}
    for text, hit in zip((first, second, third), alone, strict=True):
        assert f"  ({ranks.get(hit['text'], '-')})  " in text
    assert len(tuned_lines) == 3

    card.write_text("---\nbase_model: /no/where\n---\n")
    message = fails(["search", *flags, *some], capsys)
    assert message.startswith("model /no/where: not found")
    assert message.endswith("--compare FOLDER compares with another model")
    card.write_text("---\nbase_model: [unclosed\n---\n")
    assert "README.md: can't be read" in fails(["search", *flags, *some], capsys)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--top_k=0", "q"], "top_k: is 0, must be at least 1"),
        (["--eval_batch_size=0", "q"], "eval_batch_size: is 0, must be at least 1"),
        (["good", " \t"], "question: is empty"),
        (["bad \udcff"], r"question 'bad \udcff': is not UTF-8"),
        (["--input_jsonl=nowhere.jsonl", "q"], "nowhere.jsonl: no such file"),
        (["--model=/no/where", "q"], "model /no/where: not found"),
        (["--field=answers", "q"], "field: is answers, expected"),
        (["--accelerator=abacus", "q"], "abacus"),
        (["--precision=7-true", "q"], "7-true"),
        (["--top_n=3", "q"], "--top_n"),
        (["--index_dir=/dev/null/x", "q"], "the index can't be written"),
    ],
)
def test_bad_input(flags: list[str], args: list[str], message: str, capsys: Capture) -> None:
    assert message in fails(["search", *flags, *args], capsys)


def test_the_folder_of_a_run(
    flags: list[str], tiny_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    """From the command line, and from Python."""
    run = tmp_path / "out"
    shutil.copytree(tiny_model, run / "best_model")
    meant = f"model {run}: is the folder of a run; did you mean --model {run}/best_model?"
    assert fails(["search", *flags, f"--model={run}", "q"], capsys) == meant
    with pytest.raises(InputError, match=re.escape(meant)):
        embedft.search("q", run, flags[1].partition("=")[2])
    for command in ("test", "validate", "predict"):
        said = fails([command, flags[1], f"--model={run}"], capsys)
        assert said.endswith(f"did you mean --base_model {run}/best_model?")


def test_no_answers_are_refused_before_the_model_is_read(flags: list[str], capsys: Capture) -> None:
    message = fails(["search", *flags, "--model=/no/where", "--top_k=0", "q"], capsys)
    assert message == "top_k: is 0, must be at least 1"


def test_without_faiss(flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "/no/where: not found" in fails(["search", *flags, "--model=/no/where", "q"], capsys)
    message = fails(["search", *flags, "q"], capsys)
    assert (
        message == "search: FAISS is not installed. Install it with: pip install 'embedft[search]'"
    )
