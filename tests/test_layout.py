"""The shape of the sources: sizes, imports, and words that messages and docstrings must not use."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "embedft"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in MODULES}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
TEXTS = SOURCES | {
    path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
    for path in PACKAGE.rglob("*.html")
}

# Words that a reader has to translate, and what to write instead.
BANNED = {
    r"surely": "significantly",
    r"likewise": "also, or the text again",
    r"anew": "again",
    r"mended": "fixed",
    r"in place of": "instead of",
    r"lies? on one side": "is kept together",
    r"(go|goes|going|gone|went) on (with|from|by)": "resume, continue",
    r"(find|finds|found|finding) (more|less|as much)": "the metric by its name",
    r"(forget|forgets|forgot|forgetting) (more|less|as much)": "the metric by its name",
    r"of (before|now)": "earlier, current",
    r"so many": "the number",
    r"road": "path",
    r"dealt": "assigned",
    r"hung": "attached",
    r"(wide|every|no) letters?": "character",
    r"(?<!first )places|place of|by (its |their )?place": "index, position",
    r"(both|two|held-out|training) sides?": "part of the split",
    r"in turn": "one after the other",
}


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a bare string, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its ``def`` on, without those of its docstring."""
    first = function.body[0]
    lines = (function.end_lineno or 0) - function.lineno + 1
    if is_text(first):
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Modules that are imported, anywhere in a file, and the names taken from each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names]


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def prose(name: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string and comment of a file; a template is one text."""
    if name not in TREES:
        yield 1, TEXTS[name]
        return
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(SOURCES[name]).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_the_package_was_found() -> None:
    assert {"__init__.py", "recipe.py", "cli/main.py"} <= SOURCES.keys()


def test_few_files_lie_flat() -> None:
    flat = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(flat) <= 8, flat


def test_no_package_is_crowded() -> None:
    folders = {path.parent for path in MODULES} - {PACKAGE}
    sizes = {folder.name: len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > 16} == {}


def test_no_file_is_long() -> None:
    lines = {name: source.count("\n") for name, source in SOURCES.items()}
    assert {name: count for name, count in lines.items() if count > 300} == {}
    assert statistics.median(lines.values()) < 130


def test_no_function_is_long() -> None:
    """Without its docstring, which may say as much as it needs."""
    lengths = {
        f"{name}:{node.name}": length(node)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}


def test_only_the_recipe_decides_what_auto_means() -> None:
    compared = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if name != "recipe.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for operand in (node.left, *node.comparators)
        if isinstance(operand, ast.Constant) and operand.value == "auto"
    ]
    assert compared == []


def test_no_private_part_of_a_dependency_is_imported() -> None:
    found = [
        f"{name}: {module} {names}"
        for name, tree in TREES.items()
        for module, names in imports(tree)
        if module.partition(".")[0] != "embedft"
        if any(map(private, [*module.split("."), *names]))
    ]
    assert found == []


def test_private_names_stay_in_their_module() -> None:
    found = [
        f"{name}: {module} {names}"
        for name, tree in TREES.items()
        for module, names in imports(tree)
        if module.partition(".")[0] == "embedft"
        if any(map(private, names))
    ]
    assert found == []


@pytest.mark.parametrize("words", BANNED)
def test_banned_words(words: str) -> None:
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    found = [
        f"{name}:{line}: {found[0]!r} in ...{plain[max(0, found.start() - 40) : found.end() + 40]}"
        for name in sorted(TEXTS)
        for line, text in prose(name)
        for plain in [re.sub(r"\s+", " ", text)]
        if " " in plain  # not the key of a file or table
        for found in pattern.finditer(plain)
    ]
    assert not found, f"write {BANNED[words]}:\n" + "\n".join(found)


def test_banned_names() -> None:
    """Identifiers use the same words as prose; ``topic_place`` is a key of older checkpoints."""
    banned = re.compile(r"(?:^|_)(places?|some|letters?|road|turns?|dealt|hung|anew)(?:_|$)")
    names = {
        f"{name}:{token.start[0]}: {token.string}"
        for name, source in SOURCES.items()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME and token.string != "topic_place"
        if banned.search(token.string)
    }
    assert names == set()
