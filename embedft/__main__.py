"""Entry point of ``python -m embedft`` and of the script ``embedft``."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Runs the command line; Ctrl-C ends it while packages are imported, too, and at its exit."""
    # Not as KeyboardInterrupt: an import or what runs at exit may catch it, or print its traceback.
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup ignores it
    if waits:
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # what packages make stays: to look for garbage in it, here and at the exit,
    from embedft.cli.main import main as run

    gc.freeze()  # takes a third of the time of a start
    gc.enable()
    if waits:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        if waits:
            signal.signal(signal.SIGINT, _end)


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


if __name__ == "__main__":  # a process that imports this file again stays light
    main()
