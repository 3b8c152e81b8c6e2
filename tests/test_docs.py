"""The documentation site builds without warnings, loads nothing from the network, and stays true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html import unescape
from importlib.metadata import version
from pathlib import Path

import pytest
from test_readme import ROOT, blocks

from embedft import losses
from embedft.cli.help_pages import PAGES
from embedft.cli.main import main
from scripts import loss_figures
from scripts.site_docstrings import markdown

pytestmark = pytest.mark.docs

TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
PAGES_OF_DOCS = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
LOSSES_PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
LOSSES = re.findall(r"^## (\w+Loss)$", LOSSES_PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


def pages(site: Path) -> dict[str, str]:
    return {page.name: page.read_text(encoding="utf-8") for page in site.glob("*.html")}


def text_of(page: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", page))


@pytest.mark.slow
def test_every_page_is_there(site: Path) -> None:
    sources = {page.stem for page in (ROOT / "docs").glob("*.md")}
    made = {"index", "contributing", "command-line", "404"}
    assert {Path(name).stem for name in pages(site)} == sources | made


@pytest.mark.slow
def test_nothing_is_fetched(site: Path) -> None:
    """Links may lead to other sites; what a page loads is in the site's folder."""
    for name, page in pages(site).items():
        loads = [
            *re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\" >]+)", page),
            *re.findall(r"<link\b(?![^>]*rel=\"?(?:canonical|prev|next))[^>]*\bhref=\"?([^\" >]+)", page),
        ]  # fmt: skip
        assert loads, name
        for address in loads:
            assert not re.match(r"(https?:)?//", address), f"{name} loads {address}"
            assert (site / address.lstrip("/")).exists(), f"{name}: {address}"
        assert "mermaid" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text("utf-8"))


@pytest.mark.slow
def test_formulas_need_no_script(site: Path) -> None:
    made = pages(site)
    assert not [
        name for name, page in made.items() if re.search(r"arithmatex|\.\. math|\\frac", page)
    ]
    assert made["losses.html"].count("<math") == len(LOSSES)
    reference = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: embedft\.losses\.(\w+Loss)$", reference, re.MULTILINE)
    assert made["python.html"].count("<math") == len(documented) + 2  # two within a sentence


@pytest.mark.slow
def test_command_line_page_is_what_help_prints(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = text_of(pages(site)["command-line.html"])
    for arguments in ([], *([name] for name in PAGES)):
        with pytest.raises(SystemExit):
            main([*arguments, "--help"])
        assert capsys.readouterr().out.strip() in page
    assert "--trainer.accumulate_grad_batches" in page  # of --help_all
    assert str(Path.home()) not in page


@pytest.mark.slow
def test_the_readme_is_the_first_page(site: Path) -> None:
    page = text_of(pages(site)["index.html"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", re.sub(r"```.*?```", "", readme, flags=re.DOTALL), re.M)
    assert headings
    assert all(heading in page for heading in headings)


def test_commands_of_the_training_guide_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks(TRAINING, "bash") for line in block.splitlines()]
    fits = [command for command in commands if " fit " in command and "out/config" not in command]
    assert len(fits) >= 6
    for command in fits:
        given = command.replace("--print_config=skip_default", "")
        with pytest.raises(SystemExit):
            main([*shlex.split(given)[3:], "--print_config"])
        assert "base_model: " in capsys.readouterr().out, command


def test_flags_and_presets_named_in_the_docs_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"--config", "--version", "--print_completion", "--test_only", "--logdir"}
    for arguments in ([], ["fit", "--help_all"], *([name, "--help"] for name in PAGES)):
        with pytest.raises(SystemExit):
            main(arguments or ["--help"])
        known |= set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    for page in PAGES_OF_DOCS:
        if page.name == "performance.md":  # flags of the benchmarks
            continue
        code = "\n".join(
            re.findall(r"`[^`\n]+`|^.*python -m embedft .*$", page.read_text("utf-8"), re.M)
        )
        code = re.sub(
            r"(python scripts/|mkdocs|torchrun|srun|docker|pytest|tensorboard|nox|pip|hf) .*",
            "",
            code,
        )
        unknown = set(re.findall(r"(?<![\w-])--(?!model\.loss\.)[a-z_][\w.]*", code)) - known
        assert not unknown, page.name
        for preset in re.findall(r"--config ([a-z][\w-]*)(?![\w./-])", code):
            assert (ROOT / "configs" / f"{preset}.yaml").exists(), f"{page.name}: {preset}"


OTHER_STYLE = {"presets.md", "quality.md", "study.md", "comparison.md", "reliability.md"}
BANNED = (
    r"\b(surely|likewise|anew|in place of|the guide's|peer|dealt|hung|stands? in|goes on with|"
    r"besides|of before|whole road)\b"
)


def prose(page: Path) -> str:
    """A page without code, tables, headings, pictures and the targets of links."""
    text = re.sub(r"^(```|\$\$).*?^\1", "", page.read_text("utf-8"), flags=re.M | re.S)
    return re.sub(r"^(\||#|!\[|    ).*$|(?<=\])\([^)]*\)", "", text, flags=re.M)


@pytest.mark.parametrize("page", PAGES_OF_DOCS, ids=lambda page: page.name)
def test_sentences_are_short_and_words_plain(page: Path) -> None:
    if page.name in OTHER_STYLE:
        pytest.skip("tables of results, and pages of facts for few readers")
    text = prose(page)
    parts = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.M)
    sentences = [
        one for part in parts for one in re.split(r"(?<=[.!?:])\s+", " ".join(part.split()))
    ]
    assert not [sentence for sentence in sentences if len(sentence.split()) > 35]
    assert not re.findall(BANNED, text)


def test_the_losses_of_the_first_release_are_explained() -> None:
    assert set(LOSSES) >= {
        "MultipleNegativesRankingLoss",
        "ContrastiveLoss",
        "OnlineContrastiveLoss",
        "CosineSimilarityLoss",
        "MatryoshkaLoss",
    }


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_explained(name: str) -> None:
    """Each has a section with the formula of its docstring."""
    docstring = getattr(losses, name).__doc__
    (formula,) = re.findall(
        r"^\.\. math::\n(.*?)\n\n", re.sub(r"(?m)^    ", "", docstring), re.DOTALL | re.MULTILINE
    )
    section = LOSSES_PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0]
    (shown,) = re.findall(r"\$\$\n(.*?)\n\$\$", section, re.DOTALL)
    assert shown.split() == formula.split()
    assert all(word in section for word in ("**Pulls", "**Choose it**", "Source"))


@pytest.mark.skipif(
    f"matplotlib=={version('matplotlib')}" not in (ROOT / "constraints.txt").read_text().split(),
    reason="another matplotlib computes another layout",
)
def test_loss_figures_are_those_of_the_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn again, they have the same texts and, up to rounding, the same numbers."""
    shown = loss_figures.IMAGES
    monkeypatch.setattr(loss_figures, "IMAGES", tmp_path)
    loss_figures.main()
    figures = sorted(tmp_path.iterdir())
    assert [figure.name for figure in figures] == sorted(f.name for f in shown.glob("loss-*.svg"))
    for figure in figures:
        drawn, kept = figure.read_text("utf-8"), (shown / figure.name).read_text("utf-8")
        assert texts_of(drawn) == texts_of(kept) != []
        assert numbers_of(drawn) == pytest.approx(numbers_of(kept), abs=0.01)


def test_tests_named_in_the_docs_exist() -> None:
    files = list((ROOT / "tests").rglob("*.py"))
    functions = {
        name
        for path in files
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {
        name
        for page in pages
        for name in re.findall(r"(?<![\w-])test_\w+(?:\.py)?\b(?!\.html)", page.read_text("utf-8"))
    }
    assert "test_resume_matrix" in named
    assert named <= functions | {path.name for path in files}


def texts_of(figure: str) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", figure)


def numbers_of(figure: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", figure)]


def test_docstrings_become_markdown() -> None:
    docstring = """One line.

.. math::
    a
      + b

with :math:`t_+` and :class:`~embedft.losses.Loss` in ``code``
"""
    assert (
        markdown(docstring)
        == """One line.

$$
a
  + b
$$

with $t_+$ and `Loss` in `code`

"""
    )
