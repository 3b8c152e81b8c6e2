"""Runs ``python -m embedft`` in a process that is forked from one with all imports done.

The imports take seconds, a fork takes milliseconds. In all else it is a new process: it has its own
memory, files, signals, environment and limits. test_readme.py and test_bad_input.py start
``python -m embedft`` without a fork.
"""

from __future__ import annotations

import os
import resource
import runpy
import subprocess
import sys
from multiprocessing import get_context, set_start_method
from pathlib import Path
from tempfile import TemporaryDirectory

TESTS = Path(__file__).parent
RANK_VARIABLES = {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
"""Environment variables of a process that is one rank of several."""

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["embedft.cli.main", "transformers.models.bert.modeling_bert"])

Limits = dict[int, int]


def run(
    arguments: list[str],
    *,
    folder: Path | None = None,
    variables: dict[str, str] | None = None,
    limits: Limits | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command line to its end.

    Args:
        arguments: What follows ``python -m embedft``.
        folder: Working folder; default: the current one.
        variables: Environment variables to add.
        limits: Maximum of each resource (``resource.RLIMIT_...``), for the process.
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | (variables or {})
    with TemporaryDirectory() as captured:
        streams = [Path(captured) / name for name in ("stdout", "stderr")]
        process = CONTEXT.Process(
            target=_main, args=(arguments, folder or Path.cwd(), limits or {}, environment, streams)
        )
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
        status = process.exitcode
        assert status is not None
        texts = [stream.read_text(encoding="utf-8") for stream in streams]
    return subprocess.CompletedProcess(arguments, status, *texts)


def torchrun(ranks: int, script: Path, *arguments: str) -> None:
    """Runs a script as that many ranks; all of them must succeed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", str(script), *arguments]
    environment = os.environ | RANK_VARIABLES
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


def _main(
    arguments: list[str],
    folder: Path,
    limits: Limits,
    environment: dict[str, str],
    streams: list[Path],
) -> None:
    """The new process: as ``python -m embedft`` in a folder."""
    for descriptor, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    set_start_method(None, force=True)  # the default, for processes that it starts
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv[1:] = arguments
    for limit, size in limits.items():
        resource.setrlimit(limit, (size, size))
    runpy.run_module("embedft", run_name="__main__", alter_sys=True)
