"""SIGTERM and SIGINT; whole runs are stopped in test_interrupted.py and test_resume.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from embedft.errors import StoppedError
from embedft.run.signals import SignalListener, ending_at_once, raise_if_sigterm

LISTENS = """
import signal, sys
from embedft.run.signals import SignalListener
signal.signal(signal.SIGTERM, lambda *_: None)
listener = SignalListener(prints=True)
print("ready", flush=True)
sys.stdin.read()  # a call in which Python runs no handler
"""


def test_the_second_signal_ends_the_process() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LISTENS], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
    assert first.startswith("embedft: stops after this step or evaluation, and saves; a second")
    assert rest == "embedft: ended at once; what was saved before is kept\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_close_ends_the_thread() -> None:
    before = threading.active_count()
    listener = SignalListener(prints=False)
    assert threading.active_count() == before + 1
    listener.close()
    assert threading.active_count() == before
    listener.close()
    descriptor = signal.set_wakeup_fd(-1)
    assert descriptor == -1, "the earlier one, which is none"


@pytest.mark.parametrize("received", [True, False])
def test_sigterm_during_an_evaluation(received: bool) -> None:
    trainer: Any = SimpleNamespace(received_sigterm=received)
    if not received:
        raise_if_sigterm(trainer)
        return
    with pytest.raises(SIGTERMException):
        raise_if_sigterm(trainer)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_outside_of_the_steps(signum: signal.Signals) -> None:
    """While data is read or models are exported: one line, and the earlier handler afterwards."""
    before = signal.signal(signum, signal.SIG_DFL)  # under nohup it is ignored
    earlier = signal.getsignal(signum)
    with (
        pytest.raises(StoppedError, match=f"stopped by {signum.name}; go on") as stopped,
        ending_at_once(lambda: "go on"),
    ):
        os.kill(os.getpid(), signum)
    assert stopped.value.exit_status == 128 + signum
    assert signal.getsignal(signum) == earlier
    signal.signal(signum, before)


def test_a_signal_that_nohup_ignores() -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_at_once(lambda: "not said"):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, earlier)
