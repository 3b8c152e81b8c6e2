"""The tests on each Python, with the lowest versions of pyproject.toml, and the linters.

``nox -l`` lists the sessions; one whose interpreter is missing is skipped.
"""

from __future__ import annotations

import os

import nox

nox.options.default_venv_backend = "uv"
EXTRAS = (
    "completion",
    "generate",
    "lora",
    "offline",
    "onnx",
    "search",
)  # their lower bounds are tested
QUICK = (
    *(
        "tests/data",
        "tests/table",
        "tests/encoder",
        "tests/losses",
        "tests/check",
        "tests/test_cli.py",
    ),
    *("tests/test_fit.py", "tests/test_model_options.py", "tests/export/test_onnx.py"),
    *("tests/report", "tests/cli/test_search.py"),
)
ORACLES = ("pytest", "hypothesis", "scipy", "sentence-transformers")  # any version


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """All tests, with the newest versions: ``nox -s tests-3.12 -- tests/data``."""
    session.install("-e", ".[offline,dev]")
    session.run("pytest", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The quick tests, with the lowest versions; ``-- torch==2.13.0`` chooses a version."""
    folder = session.create_tmp()
    versions, others = os.path.join(folder, "lowest.txt"), os.path.join(folder, "others.txt")
    with open(others, "w", encoding="utf-8") as stream:
        stream.write("\n".join(session.posargs))
    session.install("uv")
    session.run(
        *("uv", "pip", "compile", "pyproject.toml", "--resolution=lowest-direct", "--quiet"),
        *(f"--extra={extra}" for extra in EXTRAS),
        *(f"--python-version={session.python}", f"--constraints={others}"),
        *("--upgrade", f"--output-file={versions}"),
    )
    session.install("-r", versions)
    session.install("-c", versions, *ORACLES)
    session.install("--no-deps", "-e", ".")
    # Older versions warn about their own code; the tests would treat that as errors.
    session.run("pytest", "-m", "not slow", "--override-ini=filterwarnings=", *QUICK)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Formatter, linter, and the type checker as each Python sees the code."""
    session.install("-c", "constraints.txt", "-e", ".[offline,dev]")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("lint-imports", "--no-logo")
    for version in ("3.10", "3.11", "3.12", "3.13"):
        session.run("mypy", f"--python-version={version}")
