from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, completion, error, pairs_about, passage_of
from oracle import read_records

from embedft.cli.main import main as embedft
from embedft.errors import InputError
from embedft.generate.generate import main
from embedft.generate.pairs import fault, good_pairs, is_supported, read_reply
from embedft.generate.passages import Passage, find_files, read_passages

ROOT = Path(__file__).parents[2]
KEY = "sk-secret-0123456789"

MARKDOWN = """# Silicon anodes

Silicon swells by about 300% on lithiation and breaks. The pieces lose contact with the copper foil.

## Binders ##

Crosslinked alginate re-forms its hydrogen bonds, so 83% of 2,100 mAh/g remained after 200 cycles.

Short.
"""

TEI = """<?xml version="1.0" encoding="UTF-8"?>
<TEI xml:space="preserve" xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt>
<title level="a" type="main">On binders</title></titleStmt></fileDesc><profileDesc><abstract>
<div><p><s>We compared binders.</s><s>Alginate holds best in every cell.</s></p></div></abstract>
</profileDesc></teiHeader><text xml:lang="en"><body>
<div><head n="1">Intro &amp; aims</head><p>Silicon swells <ref type="bibr" target="#b0">[1]</ref>,
as <ref type="figure">Fig. 1</ref> shows.<formula>x=1</formula></p><p>It breaks — für immer.</p></div>
<figure><head>Figure 1</head><figDesc>A drawing of a cell.</figDesc></figure>
<note place="foot">A foot note of some length.</note></body>
<back><div type="references"><listBibl><biblStruct><p>A reference.</p></biblStruct></listBibl></div>
</back></text></TEI>"""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChatServer]]:
    """Starts a server, and names it in the environment."""
    servers = []

    def start(answer: Callable[[int, dict[str, Any]], Reply | None]) -> ChatServer:
        servers.append(ChatServer(answer))
        monkeypatch.setenv("OPENAI_BASE_URL", servers[-1].url)
        monkeypatch.setenv("OPENAI_MODEL", "small")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """Twelve texts of a passage each, one of them in a subfolder and in Chinese."""
    folder = tmp_path / "papers"
    (folder / "sub").mkdir(parents=True)
    for number in range(11):
        text = f"Cell {number} kept {90 - number}% of its capacity after 200 cycles. "
        (folder / f"paper-{number:02}.txt").write_text(text + "It was charged at 25 °C each time.")
    (folder / "sub" / "电池.txt").write_text(
        "硅负极在锂化时膨胀约百分之三百并破裂，容量随之下降。" * 3
    )
    return folder


def run(papers: Path, *flags: str) -> Path:
    output = papers.parent / "made" / "pairs.jsonl"
    main(
        [
            f"--input_dir={papers}",
            f"--output_jsonl={output}",
            "--min_chars=20",
            "--timeout=5",
            *flags,
        ]
    )
    return output


def failing(capsys: pytest.CaptureFixture[str], papers: Path, *flags: str) -> tuple[Any, str]:
    """Exit status and the last line of a run that ends badly; that line is the error's only one."""
    with pytest.raises(SystemExit) as raised:
        run(papers, *flags)
    said = capsys.readouterr().err.strip().splitlines()
    assert sum("generate_qa: error: " in line for line in said) == 1, said
    assert "Traceback" not in "".join(said)
    return raised.value.code, said[-1]


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text("utf-8").splitlines()]


# Passages


def test_passages_of_markdown(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.md"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + MARKDOWN.replace("\n", "\r\n").encode())
    first, second = read_passages(path, tmp_path, min_chars=30, max_chars=500)
    assert first == Passage(
        "sub/a.md#p1",
        "sub/a.md",
        "Silicon anodes",
        "Silicon swells by about 300% on lithiation and breaks. The pieces lose contact with the "
        "copper foil.",
    )
    assert second.id == "sub/a.md#p2"
    assert second.heading == "Binders"
    assert second.text.endswith("after 200 cycles.\n\nShort.")


def test_passages_of_tei(tmp_path: Path) -> None:
    path = tmp_path / "a.grobid.tei.xml"
    path.write_text(TEI, "utf-8")
    passages = read_passages(path, tmp_path, min_chars=10, max_chars=500)
    assert [(passage.heading, passage.text) for passage in passages] == [
        ("Abstract", "We compared binders. Alginate holds best in every cell."),
        ("Intro & aims", "Silicon swells, as Fig. 1 shows.\n\nIt breaks — für immer."),
    ]


def test_long_paragraphs_are_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    text = " ".join(f"Sentence {number} has some words." for number in range(80))
    texts = {"spaced": text, "unspaced": "字" * 700, "chinese": "硅负极在锂化时膨胀并破裂。" * 60}
    for name, content in texts.items():
        path = tmp_path / f"{name}.txt"
        path.write_text(content, "utf-8")
        passages = read_passages(path, tmp_path, min_chars=1, max_chars=200)
        assert all(len(passage.text) <= 200 for passage in passages)
        joined = "".join(passage.text for passage in passages)
        assert "".join(joined.split()) == "".join(content.split())
        if name != "unspaced":
            assert all(passage.text[-1] in ".。" for passage in passages)


LAUGHS = """<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>
<TEI xmlns="http://www.tei-c.org/ns/1.0"><text><body><p>&b;</p></body></text></TEI>"""
FILE = LAUGHS.replace('"&a;&a;"', 'SYSTEM "file:///etc/passwd"')


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", LAUGHS.encode(), "declares a DTD or entities"),
        ("a.xml", FILE.encode(), "declares a DTD or entities"),
        ("a.tei.xml", TEI.encode()[:700], "not well-formed XML"),
        ("a.xml", b"", "not well-formed XML"),
        ("a.xml", b"<html/>", "is not TEI: its root is <html>"),
        ("a.txt", "für".encode("latin-1"), r"not UTF-8 \(byte 0xfc at position 2\)"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {reason}"):
        read_passages(tmp_path / name, tmp_path, 1, 500)


def test_folders_without_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_files(tmp_path / "none")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("not a text of the user's")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(InputError, match="holds no .txt, .md, .xml files"):
        find_files(tmp_path)


# Replies and pairs

PASSAGE = Passage(
    "a#p1", "a", "", "Silicon swells by about 300% on lithiation and breaks at 25 °C."
)
GOOD = {"question": "How much does silicon swell?", "answer": "It swells by about 300%."}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"pairs": [GOOD]}),
        json.dumps([GOOD]),
        f"Here you are:\n```json\n{json.dumps({'pairs': [GOOD]}, indent=1)}\n```\nGood luck!",
        f"<think>no</think> {json.dumps({'pairs': [GOOD]})} as asked",
    ],
)
def test_replies_that_can_be_read(content: str) -> None:
    assert read_reply(content) == [GOOD]


@pytest.mark.parametrize(
    "content", ["", "no", '{"pairs": [{"que', '{"pairs": 3}', "{}", "[" * 100_000, "\ud800{"]
)
def test_replies_that_can_not(content: str) -> None:
    with pytest.raises(ValueError, match="the reply"):
        read_reply(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"question": "Wie stark schwillt Silizium?"}, ""),
        ({"question": "硅在锂化时膨胀多少？"}, ""),
        ({"question": "What is the work function of silicon?"}, ""),
        ({"question": ""}, "not a question and an answer"),
        ({"answer": "  "}, "not a question and an answer"),
        ({"question": "half a pair \ud83d?"}, "not a question and an answer"),
        ({"question": "Silicon swells."}, "no question"),
        ({"question": "Why?"}, "no question"),
        ({"question": "How much does silicon swell according to the text?"}, "question points"),
        ({"question": "What does the passage say on silicon?"}, "question points"),
        ({"question": "What did the authors find in silicon?"}, "question points"),
        ({"question": "What does Figure 3 show of silicon?"}, "question points"),
        ({"question": "Wie stark schwillt Silizium laut Text?"}, "question points"),
        ({"answer": "According to the passage, silicon swells by 300%."}, "answer points"),
        ({"answer": GOOD["question"]}, "no answer"),
        ({"answer": "It swells by about 400%."}, "answer is not in the passage"),
        ({"answer": "Graphite stays flat in most commercial cells."}, "answer is not in"),
        ({"answer": "!!!"}, "answer is not in the passage"),
    ],
)
def test_which_pairs_are_good(change: dict[str, str], reason: str) -> None:
    assert fault(GOOD | change, PASSAGE, set()).startswith(reason)
    if not reason:
        assert fault(GOOD | change, PASSAGE, set()) == ""


def test_pairs_of_other_shapes_and_twice() -> None:
    again = GOOD | {"question": "HOW much does  silicon swell?"}
    kept, refused = good_pairs([GOOD, again, "x", None, {"question": 3}, [GOOD]], PASSAGE)
    assert kept == [GOOD]
    assert refused == {"twice": 1, "not a question and an answer": 4}


def test_support_in_a_script_without_spaces() -> None:
    text = "硅负极在锂化时膨胀约百分之三百并破裂。"
    assert is_supported("硅负极膨胀约百分之三百。", text)
    assert not is_supported("石墨的价格今年上涨了很多。", text)


# The whole way


def test_from_texts_to_a_trained_model(
    serve: Callable[..., ChatServer], papers: Path, tiny_model: Path, tmp_path: Path
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    output = run(papers)
    assert len(server.requests) == 12
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert {body["model"] for body in server.requests} == {"small"}
    assert server.requests[0]["response_format"] == {"type": "json_object"}
    rows = rows_of(output)
    assert {"id", "question", "answer", "context", "file_name"} == set(rows[0])
    assert len({row["id"] for row in rows}) == len(rows)
    assert rows[0]["id"] == "paper-00.txt#p1q1"
    assert {row["file_name"] for row in rows} >= {"paper-00.txt", "sub/电池.txt"}
    for path in output.parent.iterdir():
        assert KEY not in path.read_text("utf-8")
    _, report = read_records(output)
    assert report.duplicates == 0
    embedft(
        [
            "fit",
            f"--input_jsonl={output}",
            f"--base_model={tiny_model}",
            f"--output_dir={tmp_path / 'out'}",
            "--epochs=1",
            "--accelerator=cpu",
            "--precision=32-true",
            "--trainer.enable_progress_bar=false",
        ]
    )
    assert (tmp_path / "out" / "best_model" / "modules.json").is_file()


def test_a_server_that_misbehaves(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too many requests, faults, drops, slow and unreadable answers: all is asked again."""
    trouble: list[Reply | None] = [
        error(429, "slow down", Retry_After="0.01"),
        error(503, "busy", Retry_After="0.01"),
        None,
        completion("I can't do that."),
        (200, {}, '{"id": "chatcmpl-1", "choi'),
        completion(None),
        (200, {"Content-Type": "text/html"}, "<html>login</html>"),
        completion("", choices=[]),
    ]

    def answer(number: int, body: dict[str, Any]) -> Reply | None:
        if number == 16:
            time.sleep(1.5)  # longer than the time-out
        place, odd = divmod(number, 2)
        return pairs_about(body) if odd or place >= len(trouble) else trouble[place]

    server = serve(answer)
    output = run(papers, "--timeout=1", "--concurrency=1")
    assert len(server.requests) == 12 + 9
    assert len({row["file_name"] for row in rows_of(output)}) == 12
    assert "12 of 12 passages" in capsys.readouterr().out


def test_retry_after_is_waited_for(serve: Callable[..., ChatServer], papers: Path) -> None:
    server = serve(
        lambda number, body: pairs_about(body) if number else error(429, "wait", Retry_After="1")
    )
    run(papers, "--max_passages=1")
    assert server.times[1] - server.times[0] >= 1  # without the header it would be 0.5 at most


def test_requests_per_minute_holds_for_retries_too(
    serve: Callable[..., ChatServer], papers: Path
) -> None:
    server = serve(
        lambda number, body: pairs_about(body) if number else error(429, "", Retry_After="0.01")
    )
    run(papers, "--requests_per_minute=600", "--max_passages=6")
    assert len(server.times) == 7
    assert server.times[-1] - server.times[0] >= 6 * 0.1 - 0.05


@pytest.mark.slow
def test_killed_and_gone_on(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was answered before ``kill -9`` is not asked again, and stands there once."""

    def answer(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.15)
        return pairs_about(body)

    server = serve(answer)
    output = papers.parent / "made" / "pairs.jsonl"
    journal = output.with_name("pairs.jsonl.journal")
    flags = [f"--input_dir={papers}", f"--output_jsonl={output}", "--min_chars=20"]
    process = subprocess.Popen(
        [sys.executable, "scripts/generate_qa.py", *flags, "--concurrency=1"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    kept = [json.loads(line)["rows"] for line in journal.read_bytes().splitlines()[:3]]
    with journal.open("ab") as stream:
        stream.write(b'{"key": "half a li')  # as a kill in the middle of a write leaves it
    asked = len(server.requests)
    run(papers)
    again = [passage_of(body) for body in server.requests[asked:]]
    assert len(again) <= 9
    assert not set(again) & {row["context"] for rows in kept for row in rows}
    rows = rows_of(output)
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["file_name"] for row in rows}) == 12
    for line in journal.read_bytes().splitlines():
        json.loads(line)

    before, asked = output.read_bytes(), len(server.requests)
    run(papers)
    assert output.read_bytes() == before
    assert len(server.requests) == asked
    capsys.readouterr()
    run(papers, "--dry_run")
    assert "12 passages, 12 of them answered already" in capsys.readouterr().out


def test_new_texts_are_asked_and_edits_are_not_lost(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    output = run(papers, "--max_passages=4")
    assert len(server.requests) == 4
    run(papers)
    assert len(server.requests) == 12
    edited = output.read_text("utf-8").replace("What is known", "What do we know")
    output.write_text(edited, "utf-8")
    status, said = failing(capsys, papers)
    assert status == 2
    assert "it was edited or is another file" in said
    assert output.read_text("utf-8") == edited
    assert len(server.requests) == 12
    run(papers, "--overwrite")
    assert len(server.requests) == 24
    journal = output.with_name("pairs.jsonl.journal")
    journal.write_bytes(b"not JSON\n" + journal.read_bytes())
    assert "pairs.jsonl.journal: line 1 is damaged" in failing(capsys, papers)[1]


def test_dry_run_asks_and_writes_nothing(
    serve: Callable[..., ChatServer],
    papers: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    monkeypatch.delenv("OPENAI_API_KEY")
    prices = ["--input_price=1000000", "--output_price=0"]  # one a token
    output = run(papers, "--dry_run", *prices, "--requests_per_minute=4")
    said = capsys.readouterr().out
    assert "12 files, 12 passages" in said
    assert "2,880 out" in said
    assert "3 minutes at least" in said
    tokens = said[said.index("about ") :].split()[1]
    assert f"cost:     {tokens}.0000" in said
    run(papers, "--dry_run", f"--tokenizer={tiny_model}")
    assert f"by the tokenizer of {tiny_model}" in capsys.readouterr().out
    assert server.requests == []
    assert not output.parent.exists()


def test_what_was_used_is_counted(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(lambda number, body: pairs_about(body))
    run(papers, "--input_price=1000", "--output_price=10000")
    said = capsys.readouterr().out
    assert "tokens: 1,200 in, 240 out" in said
    assert "cost: 3.6000" in said


def test_refused_pairs_are_counted_and_their_passages_not_asked_again(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = completion(json.dumps({"pairs": [{"question": "What?", "answer": "Nothing."}]}))
    server = serve(lambda number, body: pairs_about(body) if "Cell 3 " in str(body) else bad)
    run(papers)
    said = capsys.readouterr().out
    assert "refused: 11 (no question 11)" in said
    run(papers)
    assert len(server.requests) == 12


def test_an_endpoint_that_refuses(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the reason and never the key; nothing is asked for long."""
    server = serve(lambda number, body: error(401, f"Incorrect API key provided: {KEY}"))
    status, said = failing(capsys, papers)
    assert status == 1
    assert "Incorrect API key provided: ***" in said
    assert len(server.requests) < 12

    server = serve(lambda number, body: error(400, "'response_format.type' must be 'text'"))
    assert "try --response_format json_schema, or text" in failing(capsys, papers)[1]

    server = serve(lambda number, body: error(400, "too long"))
    assert "5 passages failed in a row" in failing(capsys, papers, "--concurrency=1")[1]
    assert len(server.requests) in {5, 6}

    server.close()
    flags = ["--concurrency=1", "--max_retries=0"]
    said = failing(capsys, papers, *flags)[1]
    assert f"{server.url}: Connection error" in said
    assert "is the server up?" in said


def test_some_passages_fail_and_are_asked_again(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = True

    def answer(number: int, body: dict[str, Any]) -> Reply:
        if sick and "Cell 3 " in str(body):
            return error(400, "content\nfilter")
        return pairs_about(body)

    server = serve(answer)
    status, said = failing(capsys, papers)
    assert status == 1
    assert "1 passages failed: paper-03.txt#p1: " in said
    assert "content" in said
    sick = False
    output = run(papers)
    assert len(server.requests) == 13
    files = [row["file_name"] for row in rows_of(output)]
    assert files == sorted(files)  # in the order of the folder, not of the answers


def test_wrong_flags(
    serve: Callable[..., ChatServer],
    papers: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(lambda number, body: pairs_about(body))
    (papers / "bad.txt").write_bytes(b"\xff")
    assert "or leave it out with --on_bad_files skip" in failing(capsys, papers)[1]
    run(papers, "--on_bad_files=skip", "--max_passages=1")
    assert "left out: " in capsys.readouterr().err
    (papers / "bad.txt").unlink()
    assert "no passage of 1000 characters" in failing(capsys, papers, "--min_chars=1000")[1]
    assert (
        "/v1/none/chat/completions" in failing(capsys, papers, f"--base_url={server.url}/none")[1]
    )
    assert "base_url: is local, must" in failing(capsys, papers, "--base_url=local")[1]
    monkeypatch.delenv("OPENAI_MODEL")
    assert "give --model, or set OPENAI_MODEL" in failing(capsys, papers)[1]
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "api_key: set OPENAI_API_KEY" in failing(capsys, papers, "--model=m")[1]
    with pytest.raises(SystemExit):
        run(papers, "--pairs_per_passage=0")
    with pytest.raises(SystemExit):
        run(papers, "--max_chars=100", "--min_chars=200")


def test_another_run_is_writing(
    serve: Callable[..., ChatServer], papers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    serve(lambda number, body: pairs_about(body))
    output = papers.parent / "made" / "pairs.jsonl"
    output.parent.mkdir()
    busy = pytest.raises(SystemExit, match="another run is writing it")
    with FileLock(f"{output}.lock"), busy:
        run(papers)
    run(papers)
    assert sorted(os.listdir(output.parent)) == ["pairs.jsonl", "pairs.jsonl.journal"]
