"""SIGTERM, SIGHUP and SIGINT: a run saves itself at the end of a step, then stops."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from embedft.errors import StoppedError
from embedft.run.checkpoints import RunCheckpoints, evaluation_follows

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""The last comes from a terminal that closes; Windows has none, and nohup ignores it."""


class StopOnSignal(Checkpoint):
    """Ends a fit after one of these signals, once the step is saved; exit status 128 + signal.

    Lightning's own handling stops one step later, saves nothing and exits with 0. A thread
    acknowledges the signal, and ends the process after a second one: Python runs no handler while
    torch computes, which may take seconds. Under SLURM with requeueing, Lightning's handler for
    SIGUSR1, which announces a preemption, also runs at the end of a step: inside a step it would
    save half of one.

    Args:
        checkpoints: Writes the checkpoint. Its hooks must run first; Lightning calls checkpoint
            callbacks last and in order, so this class is one, too.
    """

    def __init__(self, checkpoints: RunCheckpoints) -> None:
        self.checkpoints = checkpoints
        self._received = 0
        self._requeue = False
        self._requeue_signal = 0
        self._earlier: dict[int, Any] = {}
        self._listener: SignalListener | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Installs the handlers; until then :func:`ending_at_once` ends the process."""
        environment = getattr(trainer.strategy, "cluster_environment", None)
        signum = getattr(environment, "requeue_signal", None) or signal.SIGUSR1
        if SLURMEnvironment.detect() and callable(signal.getsignal(signum)):
            self._requeue_signal = signum
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows handlers only in the main thread
        if trainer.received_sigterm:  # while the base model was evaluated
            self._received = signal.SIGTERM
        for signum in STOPPING:
            if signum == signal.SIGINT or signal.getsignal(signum) is not signal.SIG_IGN:
                self._earlier[signum] = signal.signal(signum, self._note)
        self._listener = SignalListener(prints=trainer.is_global_zero)
        if self._requeue_signal:
            self._earlier[self._requeue_signal] = signal.signal(
                self._requeue_signal, self._note_requeue
            )

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._received = signum

    def _note_requeue(self, signum: int, frame: FrameType | None) -> None:
        self._requeue = True

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stops at the end of a step; if an evaluation follows, after that."""
        if self.checkpoints.at_step_end and not evaluation_follows(trainer, batch_idx):
            self._stop_if_signalled(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops after an evaluation."""
        in_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if in_training and self.checkpoints.at_step_end:
            self._stop_if_signalled(trainer)

    def _stop_if_signalled(self, trainer: Trainer) -> None:
        if self._requeue_signal and _any_rank(trainer, self._requeue):
            self._requeue = False
            self._earlier[self._requeue_signal](self._requeue_signal, None)
        if _any_rank(trainer, self._received > 0):
            if self.checkpoints.saved_step != trainer.global_step:
                self.checkpoints.save_last(trainer)
            signum = self._received or signal.SIGTERM  # only another rank received it
            raise StoppedError(signum, "saved; resume with --ckpt_path last")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the earlier handlers, before Lightning restores those that it saw."""
        self._restore_handlers()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restores the earlier handlers; Lightning calls no teardown after an exception."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for signum, handler in self._earlier.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self._earlier = {}


@contextmanager
def ending_at_once(what_next: Callable[[], str]) -> Iterator[None]:
    """Ends a fit outside of its steps with one line after SIGTERM or SIGHUP.

    Args:
        what_next: Says what to do next, for the line.

    Raises:
        StoppedError: The signal was received.
    """
    process = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked meanwhile
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        raise StoppedError(signum, what_next())

    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for signum in STOPPING:  # Ctrl-C is a KeyboardInterrupt
            if signum != signal.SIGINT and signal.getsignal(signum) is not signal.SIG_IGN:
                earlier[signum] = signal.signal(signum, end)
    try:
        yield
    finally:
        for signum, handler in earlier.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)


def raise_if_sigterm(trainer: Trainer) -> None:
    """Ends the process if SIGTERM came during an evaluation, after Lightning's last check.

    Raises:
        SIGTERMException: The signal was received.
    """
    if trainer.received_sigterm:
        raise SIGTERMException


class SignalListener:
    """A thread that receives these signals while the main thread computes.

    Args:
        prints: Whether to acknowledge a signal on standard error.
    """

    def __init__(self, prints: bool) -> None:
        self._prints = prints
        self._reader, writer = socket.socketpair()
        self._writer: socket.socket | None = writer
        writer.setblocking(False)
        self._earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        # Ctrl-C also reaches the loader's workers, which would forward it as a second signal.
        os.register_at_fork(after_in_child=self._stop_listening)

    def _listen(self) -> None:
        received = set()
        while number := self._reader.recv(1):
            signum = number[0]
            if signum not in STOPPING:
                continue
            if signum in received:
                self._print("ended at once; what was saved before is kept")
                os._exit(128 + signum)
            received.add(signum)
            name = signal.Signals(signum).name
            again = "Ctrl-C again" if signum == signal.SIGINT else f"a second {name}"
            self._print(f"stops after this step or evaluation, and saves; {again} ends at once")

    def _print(self, text: str) -> None:
        if self._prints:
            begin = "\n" if os.isatty(2) else ""  # after ^C, or the bar
            with suppress(OSError):  # the terminal has closed
                os.write(2, f"{begin}embedft: {text}\n".encode())

    def _stop_listening(self) -> None:
        if self._writer is not None:
            signal.set_wakeup_fd(-1)

    def close(self) -> None:
        """Stops the thread, and restores the earlier wake-up file."""
        if self._writer is not None:
            signal.set_wakeup_fd(self._earlier)
            # Shutting down ends the thread. Closing would not while a loader's worker has a copy.
            self._writer.shutdown(socket.SHUT_RDWR)
            self._writer.close()
            self._writer = None
            self._thread.join()
            self._reader.close()


def _any_rank(trainer: Trainer, value: bool) -> bool:
    """Whether it is true on any rank: a signal may reach only one, or each at another time."""
    return bool(trainer.strategy.reduce_boolean_decision(value, all=False))
