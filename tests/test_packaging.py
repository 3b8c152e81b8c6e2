"""Wheel and sdist hold every file, and an installed embedft is found in any current folder."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from tiny import sample_rows, write_jsonl

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "embedft").rglob("*.py"))
FOLDERS = ("configs", "docs", "embedft", "scripts", "tests")
NOT_PYTHON = ["*.html", "*.jsonl", "py.typed"]

Files = Mapping[str, bytes]

pytestmark = pytest.mark.slow


def says(*command: str | Path, folder: Path, **variables: str) -> str:
    """What a program prints. It must not fail, and does not have this clone on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=folder, env=environment | variables, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def built(kind: str, source: Path, folder: Path) -> Path:
    """The ``wheel``, ``editable`` wheel or ``sdist`` of a source tree, made as pip makes it."""
    code = f"from hatchling import build; build.build_{kind}({str(folder)!r})"
    says(sys.executable, "-c", code, folder=source)
    (made,) = folder.iterdir()
    return made


def contents(wheel: Path) -> Files:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_in(folder: Path) -> Files:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def about(wheel: Path) -> str:
    """The METADATA of a wheel."""
    (text,) = (data for name, data in contents(wheel).items() if name.endswith("/METADATA"))
    return text.decode()


def installed(wheel: Path, environment: Path) -> Path:
    """Installs a wheel, without its dependencies; returns the folder of programs.

    Args:
        wheel: The file.
        environment: A folder for a new environment. It also sees this one's packages.
    """
    says(sys.executable, "-m", "venv", "--without-pip", environment, folder=environment)
    python = environment / "bin" / "python"
    says(
        *(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps"),
        *("--no-index", wheel),
        folder=environment,
    )
    code = "import site; print(*site.getsitepackages())"
    site = Path(says(python, "-c", code, folder=environment)[:-1])
    # Lines of a .pth file come last on sys.path. The .pth files of these folders are not read, so
    # that embedft is found in the new environment only.
    others = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))
    return python.parent


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this one, in a folder named embedft as ``git clone`` makes it."""
    folder = tmp_path_factory.mktemp("home") / "embedft"
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", clone, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel."""
    return installed(wheel, tmp_path_factory.mktemp("environment"))


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    files = [*SOURCES, *(path for kind in NOT_PYTHON for path in (ROOT / "embedft").rglob(kind))]
    wanted = {str(path.relative_to(ROOT)): path.read_bytes() for path in files}
    for path in (ROOT / "configs").iterdir():
        wanted[f"embedft/configs/{path.name}"] = path.read_bytes()
    assert {"embedft/py.typed", "embedft/report/page.html"} <= wanted.keys()
    found = {name: data for name, data in contents(wheel).items() if ".dist-info/" not in name}
    assert sorted(found) == sorted(wanted)  # and so nothing of tests, scripts, ...
    assert found == wanted


def test_what_the_wheel_says_of_itself(wheel: Path) -> None:
    text = about(wheel)
    assert "\nRequires-Python: >=3.10\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text
    assert any(name.endswith("/licenses/LICENSE") for name in contents(wheel))
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in text


def test_the_sdist_is_the_whole_source_and_builds_the_same_wheel(
    clone: Path, wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for part in FOLDERS:
        assert files_in(source / part) == files_in(clone / part)
    (again := tmp_path / "again").mkdir()
    assert contents(built("wheel", source, again)) == contents(wheel)


def test_an_editable_install_is_found_in_the_folder_that_holds_the_clone(
    clone: Path, tmp_path: Path
) -> None:
    """In that folder, ``embedft`` is also a folder without ``__init__.py``: a namespace package."""
    (made := tmp_path / "made").mkdir()
    (environment := tmp_path / "environment").mkdir()
    programs = installed(built("editable", clone, made), environment)
    version = metadata.version("embedft")
    holder = clone.parent
    command = (programs / "python", "-m", "embedft", "--version")
    assert says(*command, folder=holder) == f"embedft {version}\n"
    code = "import embedft; print(embedft.__version__, embedft.__file__)"
    init = clone / "embedft" / "__init__.py"
    assert says(programs / "python", "-c", code, folder=holder) == f"{version} {init}\n"
    assert says(programs / "embedft", "--version", folder=holder) == f"embedft {version}\n"
    code = "from embedft.cli.presets import preset; print(preset('recommended'))"
    preset = clone / "configs" / "recommended.yaml"
    assert says(programs / "python", "-c", code, folder=holder) == f"{preset}\n"


def test_an_installed_wheel_is_found_in_the_folder_that_holds_the_clone(
    clone: Path, programs: Path
) -> None:
    said = says(programs / "python", "-m", "embedft", "--version", folder=clone.parent)
    assert said.split()[-1] == metadata.version("embedft")


def test_an_installed_wheel_needs_no_clone(
    programs: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code = "import embedft; print(embedft.__file__); embedft.fit"
    where = says(programs / "python", "-c", code, folder=tmp_path)
    assert where.startswith(str(programs.parent))
    version = says(programs / "embedft", "--version", folder=tmp_path)
    assert version.split()[-1] == metadata.version("embedft")
    write_jsonl(tmp_path / "pairs.jsonl", sample_rows()[:60])
    said = says(
        *(programs / "embedft", "check", "pairs.jsonl", "--config=small-data.yaml"),
        *(f"--base_model={tiny_model}", "--accelerator=cpu", "--html=check.html"),
        folder=tmp_path,
    )
    assert "60 rows" in said
    assert re.search(r"held out +\| 10 rows", said)  # a fifth, as that preset has it
    assert "</html>" in (tmp_path / "check.html").read_text(encoding="utf-8")


def test_every_package_that_is_imported_is_asked_for(wheel: Path) -> None:
    """A package that one of the dependencies installs also counts."""
    needed = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra == 'dev')", about(wheel), re.M)
    asked = {plain(name) for name in needed}
    assert {"torch", "faiss-cpu"} <= asked
    assert "pytest" not in asked
    homes = metadata.packages_distributions()
    for path in SOURCES:
        for name in imported(path) - sys.stdlib_module_names - {"embedft"}:
            found = {plain(home) for home in homes.get(name, [name])}
            assert found & asked, f"{path} imports {name}"


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, also inside functions."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.partition(".")[0] for name in names}


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
