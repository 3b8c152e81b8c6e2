"""Signals: a run that is told to stop saves itself at the next step's end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from embedft.errors import StoppedError
from embedft.run.checkpoints import RunCheckpoints, evaluation_follows

STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(Checkpoint):
    """Ends a fit after SIGTERM or SIGINT, when the step is done and saved; exit status 143 or 130.

    Lightning's own handling ends a step later, saves nothing and exits with 0. The signal is
    acknowledged at once, and a second one ends the process at once, both by a thread: Python runs
    no handler while torch computes, which may be for seconds. Under SLURM with requeueing,
    Lightning's handler for the signal before a preemption (SIGUSR1) runs at a step's end too:
    within a step it would save half of one.

    Args:
        checkpoints: Saves. Their hooks run first: this is a ``Checkpoint`` for the order alone.
    """

    def __init__(self, checkpoints: RunCheckpoints) -> None:
        self.checkpoints = checkpoints
        self._received = 0
        self._requeue = False
        self._requeue_signal = 0
        self._earlier: dict[int, Any] = {}
        self._listener: SignalListener | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the place of the handlers; before, a signal ends the process at once."""
        environment = getattr(trainer.strategy, "cluster_environment", None)
        signum = getattr(environment, "requeue_signal", None) or signal.SIGUSR1
        if SLURMEnvironment.detect() and callable(signal.getsignal(signum)):
            self._requeue_signal = signum
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows no handlers there
        if trainer.received_sigterm:  # Lightning's handler had it, while the base was measured
            self._received = signal.SIGTERM
        for signum in STOPPING:
            self._earlier[signum] = signal.signal(signum, self._note)
        self._listener = SignalListener(speaks=trainer.is_global_zero)
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
        """Stops at the end of a step; before an evaluation it waits for that."""
        if self.checkpoints.at_step_end and not evaluation_follows(trainer, batch_idx):
            self._obey(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops after an evaluation."""
        measured = trainer.state.fn == "fit" and not trainer.sanity_checking
        if measured and self.checkpoints.at_step_end:
            self._obey(trainer)

    def _obey(self, trainer: Trainer) -> None:
        if self._requeue_signal and _any_rank(trainer, self._requeue):
            self._requeue = False
            self._earlier[self._requeue_signal](self._requeue_signal, None)
        if _any_rank(trainer, self._received > 0):
            if self.checkpoints.saved_step != trainer.global_step:
                self.checkpoints.save_last(trainer)
            signum = self._received or signal.SIGTERM  # another rank's
            raise StoppedError(signum, "saved; resume with --ckpt_path last")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the earlier handlers back, before Lightning does so with what it found."""
        self._let_go()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Likewise; Lightning calls no teardown then."""
        self._let_go()

    def _let_go(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for signum, handler in self._earlier.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self._earlier = {}


def raise_if_sigterm(trainer: Trainer) -> None:
    """Ends the process if SIGTERM came too late in an evaluation for Lightning to look.

    Raises:
        SIGTERMException: It came.
    """
    if trainer.received_sigterm:
        raise SIGTERMException


class SignalListener:
    """Hears SIGTERM and SIGINT while the main thread computes.

    Args:
        speaks: Says what was heard.
    """

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._reader, writer = socket.socketpair()
        self._writer: socket.socket | None = writer
        writer.setblocking(False)
        self._earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        # Ctrl-C reaches the loader's workers too, which would be heard as a second one.
        os.register_at_fork(after_in_child=self._stop_listening)

    def _listen(self) -> None:
        heard = set()
        while number := self._reader.recv(1):
            signum = number[0]
            if signum not in STOPPING:
                continue
            if signum in heard:
                self._say("ended at once; what was saved before is kept")
                os._exit(128 + signum)
            heard.add(signum)
            again = "Ctrl-C again" if signum == signal.SIGINT else "a second SIGTERM"
            self._say(f"stops after this step or evaluation, and saves; {again} ends at once")

    def _say(self, text: str) -> None:
        if self._speaks:
            begin = "\n" if os.isatty(2) else ""  # after ^C, or the bar
            os.write(2, f"{begin}embedft: {text}\n".encode())

    def _stop_listening(self) -> None:
        if self._writer is not None:
            signal.set_wakeup_fd(-1)

    def close(self) -> None:
        """Hears no more."""
        if self._writer is not None:
            signal.set_wakeup_fd(self._earlier)
            # Which ends the thread; closing alone would not while a loader's worker has a copy.
            self._writer.shutdown(socket.SHUT_RDWR)
            self._writer.close()
            self._writer = None
            self._thread.join()
            self._reader.close()


def _any_rank(trainer: Trainer, wish: bool) -> bool:
    """A signal reaches each rank at another time, or one alone."""
    return bool(trainer.strategy.reduce_boolean_decision(wish, all=False))
