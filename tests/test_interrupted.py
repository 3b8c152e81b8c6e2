"""Ctrl-C at any moment: one line, never a traceback, and exit status 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from programs import run
from test_resume import recorder_flags

pytestmark = pytest.mark.slow

ENTRIES = {
    "module": ["-m", "embedft"],
    "script": ["-c", "import sys; from {0} import {1}; sys.exit({1}())"],  # what pip installs
}


def entry(name: str) -> list[str]:
    """How a shell starts the command line: the module, or the script of pyproject.toml."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    target = text.partition('\nembedft = "')[2].partition('"')[0].split(":")
    return [sys.executable, *(part.format(*target) for part in ENTRIES[name])]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in its own process group, as a terminal starts it."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("seconds", [0.0, 0.8, 2.5])
def test_while_the_packages_are_imported(name: str, seconds: float) -> None:
    with started([*entry(name), "check", "nowhere.jsonl"]) as process:
        handler_is_there(process)
        time.sleep(seconds)
        said = interrupted(process)
    assert "Traceback" not in said
    if "nowhere.jsonl" in said:
        pytest.skip("had said already that there is no such file")
    assert (process.returncode, said) == (130, "interrupted\n")


def interrupted(process: subprocess.Popen[str]) -> str:
    """What it writes to standard error after Ctrl-C."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=60)[1]


def ends_with_one_word(process: subprocess.Popen[str]) -> None:
    """Presses Ctrl-C and expects a single word."""
    said = interrupted(process)
    assert (process.returncode, said) == (130, "interrupted\n")


def handler_is_there(process: subprocess.Popen[str]) -> None:
    """Waits until the process imports torch: by then Python has started."""
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "torch" not in maps.read_text():
        time.sleep(0.01)


def test_a_check_says_one_word(fit_flags: list[str]) -> None:
    with started([*entry("module"), "check", *fit_flags]) as process:
        assert process.stdout is not None
        process.stdout.readline()  # about the file; after it, steps are timed
        ends_with_one_word(process)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_fit_prints_a_line_at_once_and_one_at_its_end(
    fit_flags: list[str], tmp_path: Path, signum: signal.Signals
) -> None:
    """Neither names a class, and only the last says how to resume."""
    flags = ["fit", f"--output_dir={tmp_path}/out", *fit_flags]
    said = interrupted_at("batch:4", flags, tmp_path, signum)
    again = "Ctrl-C again" if signum == signal.SIGINT else "a second SIGTERM"
    assert (said.returncode, said.stderr.splitlines()) == (
        128 + signum,
        [
            f"embedft: stops after this step or evaluation, and saves; {again} ends at once",
            f"embedft: stopped by {signum.name}; saved; resume with --ckpt_path last",
        ],
    )
    assert "stopped" not in said.stdout


def test_a_second_signal_ends_at_once(fit_flags: list[str], tmp_path: Path) -> None:
    """Also during a step, while Python runs no signal handler."""
    flags = ["fit", f"--output_dir={tmp_path}/out", *fit_flags]
    said = interrupted_at("busy:2", flags, tmp_path)
    assert said.returncode == 130
    assert said.stderr.splitlines()[1:] == ["embedft: ended at once; what was saved before is kept"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step(
    fit_flags: list[str], tmp_path: Path, signum: signal.Signals
) -> None:
    """While the base model is measured."""
    flags = ["fit", f"--output_dir={tmp_path}/out", *fit_flags]
    said = interrupted_at("sanity:1", flags, tmp_path, signum)
    assert said.returncode == 128 + signum
    assert "Exception" not in said.stdout + said.stderr
    assert "Error" not in said.stdout + said.stderr
    if signum == signal.SIGINT:
        assert said.stderr == "interrupted\n"


def test_after_the_last_step(fit_flags: list[str], tmp_path: Path) -> None:
    """While mixed weights are measured: at once, since the training is saved."""
    flags = ["fit", f"--output_dir={tmp_path}/out", *fit_flags, "--model.base_share=0.4"]
    said = interrupted_at("validation:3", flags, tmp_path, signal.SIGTERM)
    assert said.returncode == 128 + signal.SIGTERM
    assert said.stderr == (
        "embedft: stopped by SIGTERM; training is complete and saved; rerun with --ckpt_path last to "
        "export models\n"
    )
    assert run([*flags, "--ckpt_path=last"]).returncode == 0
    assert (tmp_path / "out" / "best_model").is_dir()


def interrupted_at(
    event: str, flags: list[str], folder: Path, signum: int = signal.SIGINT
) -> subprocess.CompletedProcess[Any]:
    options = {"kill": event, "with_signal": int(signum)}
    return run([*flags, *recorder_flags(folder / "note", **options)])
