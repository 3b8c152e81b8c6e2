"""Question/answer pairs from the docstrings of installed packages: a set that anyone can make.

    python scripts/docstring_pairs.py --output_jsonl docstrings.jsonl scipy sklearn numpy

A question is the summary of a public function or class, 20 to 250 characters long. Its answer is
the rest of the docstring, if it has 200 characters or more, cut at 2,000. Each module is a file.
A pair that occurs twice is taken once. Nothing is imported, and tests are left out. The same
versions of the packages give the same file.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.tools.files import replacing_file


def pairs(package: str) -> Iterator[dict[str, Any]]:
    """The pairs of a package, sorted by file name.

    Raises:
        SystemExit: The package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package}: no such package is installed")
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root.parent).as_posix()
        if "test" in name:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            summary, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            question, answer = " ".join(summary.split()), inspect.cleandoc(rest).strip()
            if 20 <= len(question) <= 250 and len(answer) >= 200:
                yield {
                    "id": f"{name}:{node.lineno}",
                    "question": question,
                    "answer": answer,
                    "file_name": name,
                }


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the pairs of the packages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    parser.add_argument("--output_jsonl", type=Path, required=True)
    args = parser.parse_args(arguments)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for package in args.packages:
        for row in pairs(package):
            rows.setdefault((row["question"], row["answer"]), row)
    with replacing_file(args.output_jsonl) as temporary:
        cut = (row | {"answer": row["answer"][:2000]} for row in rows.values())
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in cut]
        temporary.write_text("".join(lines), encoding="utf-8")
    print(f"{args.output_jsonl}: {len(rows):,} pairs")


if __name__ == "__main__":
    main()
