"""Entry point of ``python -m embedft`` and of the script ``embedft``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Runs the command line. Ctrl-C ends it also during imports and at exit."""
    _let_waiting_threads_sleep()
    # Not as KeyboardInterrupt: an import or what runs at exit may catch it, or print its traceback.
    heeds_sigint = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup ignores it
    if heeds_sigint:
        signal.signal(signal.SIGINT, _end)
    _find_modules_of_current_folder()
    _check_ranks()
    run = _command_line()
    if heeds_sigint:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    finally:
        if heeds_sigint:
            signal.signal(signal.SIGINT, _end)


def _let_waiting_threads_sleep() -> None:
    """Makes OpenMP's threads sleep soon while they wait for each other.

    They would spin: two runs, or a run beside other work on the same cores, take ten times as long.
    It must be set before torch is imported, and only GNU's OpenMP reads it. A user's own setting of
    any OpenMP stays.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["GOMP_SPINCOUNT"] = "2000"


def _find_modules_of_current_folder() -> None:
    """Lets the script find the user's own losses, as ``python -m`` does.

    The folder comes last, so that no file in it hides an installed package.
    """
    if getattr(sys.flags, "safe_path", False):  # the user asked for no such thing
        return
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _check_ranks() -> None:
    """Exits if a variable that numbers processes is no number: libraries read them on import."""
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"):
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdigit()):
            print(f"embedft: error: {name}: is {value[:40]!a}, must be a number", file=sys.stderr)
            sys.exit(2)


def _command_line() -> Callable[[], None]:
    """Imports the command line, or exits with one line if a dependency is not installed."""
    # Imports create only long-lived objects: no search for garbage among them, neither now nor at
    # exit, saves a third of the start-up time.
    gc.disable()
    try:
        from embedft.cli.main import main as run
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in {"", "embedft"} or find_spec(module) is not None:  # not a missing dependency
            raise
        print(
            f"embedft: error: {sys.executable} has no module {module}. Activate the environment "
            "that embedft is installed in (source .venv/bin/activate), or install it: "
            "python -m pip install -e .",
            file=sys.stderr,
        )
        sys.exit(1)
    gc.freeze()
    gc.enable()
    return run


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


if __name__ == "__main__":  # a process that imports this file again stays light
    main()
