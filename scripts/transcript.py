"""Runs the commands of docs/tutorial.md again, and writes their output into the page.

The README shows the end of the same training.

A test also runs them, and compares the output. A step is a block of ``bash`` (one command) or
``python``. Its output is the block of ``text`` right after it. A step without such a block prints
nothing, or is not run: :data:`NOT_RUN`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
README = ROOT / "README.md"
SAMPLE = ROOT / "embedft" / "sample_data"
NOT_RUN = ("python3 -m venv", "pip install", "tensorboard")

# What differs between machines: numbers with a point, percentages, times, the best step, and the
# precision, which depends on the processor.
LOOSE = [
    (r"\b(32-true|bf16-mixed|16-mixed)\b", "PRECISION"),
    (r"[+-]?\b\d+\.\d+%?", "#"),
    (r"\b\d+%", "#"),
    (r"\b\d+ (s|ms|min|h)\b", "# TIME"),
    (r"\bbest_model: step \d+", "best_model: step #"),
    (r"tokens/[\w-]+", "tokens/HASH"),
    (r"^(base_share #: .*\n)+", "base_share\n"),  # one line for each share that was tried
    (r"^(  \d  ).*$", r"\1hit"),  # hits with close scores may swap
    (r" +", " "),  # columns are as wide as their numbers
    (r"([-━─┄])\1+", r"\1"),
]


class Step(NamedTuple):
    """One block of the page, and the output that the page shows."""

    language: str
    code: str
    printed: str


def steps(page: str) -> list[Step]:
    """The steps of a page, in order."""
    found = re.findall(
        r"^```(bash|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", page, re.MULTILINE | re.DOTALL
    )
    return [Step(*groups) for groups in found]


def loosened(text: str) -> str:
    """A transcript without what differs between machines; see :data:`LOOSE`."""
    for pattern, instead in LOOSE:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


def prepare(folder: Path) -> dict[str, str]:
    """Makes a folder like a clone, with a cache of its own.

    Returns:
        Environment variables for the steps.
    """
    copytree(ROOT / "configs", folder / "configs")
    copytree(SAMPLE, folder / SAMPLE.relative_to(ROOT), ignore=lambda *_: ["__pycache__"])
    return {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def run_steps(
    page: str, folder: Path, run: Callable[[list[str], Path, dict[str, str]], str]
) -> list[str]:
    """Runs the steps of a page in a folder that :func:`prepare` makes.

    Args:
        page: Its Markdown.
        folder: Empty.
        run: Runs a command line in a folder with more variables; returns its output.

    Returns:
        What each step printed; nothing for those that are not run.
    """
    variables = prepare(folder)
    printed = []
    for step in steps(page):
        command = shlex.split(step.code) if step.language == "bash" else ["python", "-c", step.code]
        said = "" if step.code.startswith(NOT_RUN) else run(command, folder, variables)
        printed.append(said.replace(variables["XDG_CACHE_HOME"], "~/.cache"))
    return printed


def run_program(command: list[str], folder: Path, variables: dict[str, str]) -> str:
    """Runs a command in a process of its own; returns its output."""
    if command[0] == "python":
        command = [sys.executable, *command[1:]]
    environment = os.environ | variables
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout


def readme_with(readme: str, fit: str) -> str:
    """The README with the table, the verdict and the main files of what ``fit`` printed."""
    lines = fit[fit.index("| metric") :].replace("out/", "quickstart_out/").splitlines()
    files = ("last model:", "checkpoints:", "metrics:", "curves:")
    shown = "\n".join(line for line in lines if not line.startswith(files)).strip()
    return re.sub(r"(?<=```text\n).*?(?=\n```)", lambda _: shown, readme, count=1, flags=re.DOTALL)


def main() -> None:
    """Writes the current output of the commands into the tutorial and the README."""
    page = PAGE.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        printed = run_steps(page, Path(folder), run_program)
    for step, said in zip(steps(page), printed, strict=True):
        block = f"```{step.language}\n{step.code}```\n"
        old = block + (f"\n```text\n{step.printed}```\n" if step.printed else "")
        new = block + (f"\n```text\n{said.rstrip()}\n```\n" if said else "")
        assert page.count(old) == 1, step.code
        page = page.replace(old, new)
        if " fit " in step.code:
            README.write_text(readme_with(README.read_text("utf-8"), said), encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
