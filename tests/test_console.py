"""What commands show: bars only on a terminal (here a pseudo-terminal), less with ``--quiet``."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embedft.cli.main import main

Capture = pytest.CaptureFixture[str]
BAR = re.compile(r"[━█╸]|\d+%\|")


def on_a_terminal(args: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command line draws on a terminal of 100 columns, without control sequences."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    drawn: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(reader, 1 << 16)
            except OSError:  # the terminal was closed
                return
            drawn.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        with monkeypatch.context() as patch, open(writer, "w", encoding="utf-8") as terminal:
            patch.setattr(sys, "stdout", terminal)
            patch.setattr(sys, "stderr", terminal)
            patch.setenv("TERM", "xterm")
            main(args)
    finally:
        thread.join()
        os.close(reader)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(drawn).decode())


@pytest.fixture
def mine_flags(pairs: Path, tiny_model: Path, tmp_path: Path) -> list[str]:
    return [
        "mine",
        f"--input_jsonl={pairs}",
        f"--output_jsonl={tmp_path}/mined.jsonl",
        f"--base_model={tiny_model}",
        f"--cache_dir={tmp_path}/cache",
        "--accelerator=cpu",
        "--precision=32-true",
    ]


def test_every_long_step_of_mining_has_a_bar(
    mine_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = on_a_terminal(mine_flags, monkeypatch)
    for step in ("reading and tokenising pairs.jsonl:", "embedding:", "mining:", "writing:"):
        assert any(BAR.search(part) for part in drawn.split(step)[1:]), step
    assert "mined.jsonl: " in drawn


def test_a_fit_has_bars(
    fit_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [flag for flag in fit_flags if "enable_progress_bar" not in flag]
    args = ["fit", *flags, f"--output_dir={tmp_path}/out", f"--data.cache_dir={tmp_path}/cache"]
    drawn = on_a_terminal(
        [*args, "--data.mine_negatives=true", "--trainer.max_steps=2"], monkeypatch
    )
    for step in (
        "reading and tokenising",
        "embedding for mining:",
        "Evaluating the base model",
        "Epoch 0/1",
    ):
        assert any(BAR.search(part) for part in drawn.split(step)[1:]), step


def test_no_bars_without_a_terminal(
    mine_flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    main(mine_flags)
    said = capfd.readouterr()
    assert not BAR.search(said.out + said.err)
    assert said.err == ""
    assert "tokens: 120 texts" in said.out


def test_a_quiet_fit_prints_only_its_result(
    fit_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [flag for flag in fit_flags if "enable_progress_bar" not in flag]
    args = ["--quiet", "fit", *flags, f"--output_dir={tmp_path}/out", "--trainer.max_steps=2"]
    drawn = on_a_terminal(args, monkeypatch)
    assert not BAR.search(drawn)
    assert drawn.startswith("\r\n| metric ")
    assert "\r\nbest model: " in drawn
    log = (tmp_path / "out" / "logs" / "embedding_finetuning.log").read_text()
    assert "INFO schedule: 2 steps" in log
    assert "RESULT" in log


def test_quiet_keeps_warnings_errors_and_results(
    fit_flags: list[str],
    mine_flags: list[str],
    pairs: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    def said_by(args: list[str]) -> list[str]:
        capsys.readouterr()
        main([*args, "--quiet"])
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    emb = tmp_path / "emb"
    for name in ("test", "validate"):
        first, *table = said_by([name, *fit_flags])
        assert first == f"{name}: the weights of base model {tiny_model}, no checkpoint"
        assert table[:2] == ["", "| metric    | value  |"]
        assert [line[:10] for line in table[3:5]] == ["| ndcg@10 ", "| mrr@10  "]
        assert len(table) == 9
    lines = said_by(["predict", *fit_flags, f"--output_dir={emb}"])
    assert lines[1:] == [
        *(f"{emb}/{name}_embeddings.npy: 60 embeddings" for name in ("question", "answer")),
        f"{emb}/ids.jsonl: the ids of the rows, in the same order",
    ]
    with pairs.open("a") as stream:
        stream.write("{}\n")
    lines = said_by(
        ["predict", *fit_flags, f"--output_dir={emb}", "--on_bad_rows=skip", "--overwrite"]
    )
    assert lines[1].startswith(f"warning: {pairs}:61: question: missing")
    with pytest.raises(SystemExit):
        main(["--quiet", *mine_flags])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"embedft: error: {pairs}:61: question: missing")


@pytest.mark.parametrize("command", ["check", "fit", "test", "search", "fit --help_all"])
def test_output_whose_reader_ends(
    command: str,
    fit_flags: list[str],
    tiny_model: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As with ``| head -1``: no error and no traceback; a fit still completes."""
    flags = {
        "fit": [*fit_flags, f"--output_dir={tmp_path}/out"],
        "search": [f"--model={tiny_model}", f"--input_jsonl={pairs}", "dust"],
        "fit --help_all": [],
    }
    reader, writer = os.pipe()
    os.close(reader)
    status = None
    with monkeypatch.context() as patch, open(writer, "w", encoding="utf-8") as pipe:
        patch.setattr(sys, "stdout", pipe)
        try:
            main([*command.split(), *flags.get(command, fit_flags)])
        except SystemExit as ended:
            status = ended.code
    assert capfd.readouterr().err == ""
    assert status == (141 if command in {"search", "fit --help_all"} else None)
    assert (tmp_path / "out" / "report.html").exists() is (command == "fit")


@pytest.mark.parametrize("flags", [["--quiet"], []])
def test_quiet_holds_for_only_one_command(
    flags: list[str], fit: Callable[..., Path], capsys: Capture
) -> None:
    fit("--trainer.max_steps=1", *flags)
    assert ("schedule: " in capsys.readouterr().out) is not bool(flags)
