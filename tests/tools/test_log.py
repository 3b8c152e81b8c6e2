from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from embedft.tools.log import RESULT, discard_output, log_to_file, lost_output, start_log
from embedft.tools.progress import set_quiet, shows_bars

Capture = pytest.CaptureFixture[str]
LEVELS = {"info": logging.INFO, "result": RESULT, "careful": logging.WARNING}


def log_all() -> None:
    log = logging.getLogger("embedft.anything")
    for message, level in LEVELS.items():
        log.log(level, message)


@pytest.fixture(autouse=True)
def _bars_restored() -> object:
    yield
    set_quiet(False)


@pytest.mark.parametrize(
    ("settings", "out", "err"),
    [
        ({}, "info\nresult\nwarning: careful\n", ""),
        ({"quiet": True}, "result\nwarning: careful\n", ""),
        ({"warnings_only": True}, "", "warning: careful\n"),
        ({"without_results": True}, "", "warning: careful\n"),
    ],
)
def test_what_the_console_shows(
    settings: dict[str, bool], out: str, err: str, capsys: Capture
) -> None:
    start_log(**settings)
    log_all()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (out, err)


@pytest.mark.parametrize("quiet", [False, True])
def test_the_file_gets_all_records(quiet: bool, tmp_path: Path) -> None:
    """Also those from before there was a file, and those that the console does not show."""
    start_log(quiet)
    log_all()
    path = tmp_path / "log"
    log_to_file(path)
    logging.getLogger("embedft").info("later")
    lines = [line.split(" ", 2)[2] for line in path.read_text("utf-8").splitlines()]
    assert lines == ["INFO info", "RESULT result", "WARNING careful", "INFO later"]


def test_a_second_command_logs_once(capsys: Capture) -> None:
    start_log()
    start_log()
    log_all()
    assert capsys.readouterr().out.count("result") == 1


def test_output_without_a_reader_is_discarded() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        stream.write("too late")
        discard_output(stream)  # otherwise closing the stream raises BrokenPipeError


def test_a_log_without_a_reader_does_not_fail(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        start_log()
        log_all()
        monkeypatch.undo()
    assert capfd.readouterr().err == ""


def test_quiet_hides_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", pytest)
    start_log()
    assert shows_bars()
    start_log(quiet=True)
    assert not shows_bars()


def test_a_full_disk_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As standard output or as the file of the log: what follows is discarded."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        start_log()
        for _ in range(3):
            logging.getLogger("embedft").info("a line")
        assert lost_output == ["No space left on device"]
        start_log()
        assert lost_output == []
