"""Cuts the texts of a folder into passages: .txt, .md, and TEI XML as GROBID writes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedft.errors import InputError
from embedft.tools.text import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TEI = "{http://www.tei-c.org/ns/1.0}"
SUFFIXES = (".txt", ".md", ".xml")  # .tei.xml too
_NOT_PROSE = {"figure", "table", "formula", "note", "listBibl"}

# The heading of a section and its paragraphs.
Section = tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that one request asks about.

    Attributes:
        id: ``file_name`` and the passage's number in the file, from 1.
        file_name: Path inside the folder, with ``/``.
        heading: The section's heading; empty if there is none.
        text: The paragraphs, with a blank line between them.
    """

    id: str
    file_name: str
    heading: str
    text: str


def find_files(folder: Path) -> list[Path]:
    """The text files of a folder and its subfolders, sorted by path; links out of it are left out.

    Raises:
        InputError: There is no such folder, or no text file in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check --input_dir")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    outside = [path for path in files if not path.resolve().is_relative_to(folder.resolve())]
    for path in outside:
        print(f"left out: {printable(str(path), 300)} is a link to another folder", file=sys.stderr)
    files = [path for path in files if path not in set(outside)]
    if not files:
        raise InputError(f"{folder}: holds no {', '.join(SUFFIXES)} files")
    return files


def read_passages(path: Path, folder: Path, min_chars: int, max_chars: int) -> list[Passage]:
    """Cuts one file into passages: paragraphs of the same section, joined up to a size.

    Args:
        path: The file.
        folder: The folder that ``file_name`` is relative to.
        min_chars: In characters. Shorter passages are left out: headings, captions, page numbers.
        max_chars: In characters. Longer paragraphs are cut at the ends of sentences.

    Raises:
        InputError: The file can't be read, or is not what its name says.
    """
    name = path.relative_to(folder).as_posix()
    if any(
        "\ud800" <= character <= "\udfff" for character in name
    ):  # bytes that Python could not read
        raise InputError(f"{name!a}: its name is not UTF-8; rename the file")
    parse: Callable[[bytes], list[Section]] = _tei if path.suffix.lower() == ".xml" else _plain
    try:
        sections = parse(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position "
            f"{error.start + 1}); save it as UTF-8"
        ) from None
    except RecursionError:
        raise InputError(f"{path}: its elements are nested too deep") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    texts = [
        (heading, text)
        for heading, paragraphs in sections
        for text in _pack(paragraphs, max_chars)
        if len(text) >= min_chars
    ]
    return [
        Passage(f"{name}#p{number}", name, heading, text)
        for number, (heading, text) in enumerate(texts, 1)
    ]


def _plain(content: bytes) -> list[Section]:
    """Sections of plain text: blank lines end paragraphs, Markdown headings begin sections."""
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\f", "\n\n")
    text = re.sub(r"(?m)^(#{1,6}[ \t]+\S.*)$", r"\n\1\n", text)
    sections: list[Section] = [("", [])]
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip().split("\n")
        if heading := re.fullmatch(r"#{1,6}[ \t]+(.+?)[ \t]*#*", lines[0]):
            sections.append((heading[1], []))
            lines = lines[1:]
        if paragraph := _fold("\n".join(lines)):
            sections[-1][1].append(paragraph)
    return sections


def _tei(content: bytes) -> list[Section]:
    """Sections of TEI XML: abstract and body, without figures, formulas and references."""
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring
    except ImportError:
        raise InputError(
            "TEI files need defusedxml; type: pip install 'embedft[generate]'"
        ) from None
    try:
        root: Any = fromstring(content, forbid_dtd=True)
    except ParseError as error:
        raise ValueError(f"not well-formed XML: {error}") from None
    except DefusedXmlException:
        raise ValueError(
            "declares a DTD or entities, which TEI files do not need; remove them"
        ) from None
    if root.tag != f"{TEI}TEI":
        raise ValueError(
            f"is not TEI: its root is <{root.tag}>; make it with GROBID's processFulltextDocument"
        )
    sections = [("Abstract", list(_paragraphs(part))) for part in root.iter(f"{TEI}abstract")]
    for body in root.iterfind(f"{TEI}text/{TEI}body"):
        for part in (body, *body.iter(f"{TEI}div")):
            heading = _fold(_text(part.find(f"{TEI}head")))
            sections.append((heading, list(_paragraphs(part))))
    return sections


def _paragraphs(part: Element) -> Iterator[str]:
    """The paragraphs directly in an element, or in a div of an abstract."""
    nested = [] if part.tag != f"{TEI}abstract" else part.findall(f"{TEI}div")
    for parent in (part, *nested):
        for paragraph in (*parent.findall(f"{TEI}p"), *parent.findall(f"{TEI}ab")):
            if text := _fold(_text(paragraph)):
                yield text


def _text(element: Element | None) -> str:
    """The prose of an element, without reference marks such as [1], sentences kept apart."""
    if element is None:
        return ""
    parts = [element.text or ""]
    for child in element:
        tag = str(child.tag).removeprefix(TEI)
        if tag not in _NOT_PROSE and not (tag == "ref" and child.get("type") == "bibr"):
            parts.append(_text(child) + (" " if tag in {"s", "item", "lb"} else ""))
        parts.append(child.tail or "")
    return "".join(parts)


def _fold(text: str) -> str:
    """Folds white space, and drops the space that a removed reference leaves before a comma."""
    return re.sub(r" ([,.;:])(?=\s|$)", r"\1", " ".join(text.split()))


def _pack(paragraphs: list[str], max_chars: int) -> Iterator[str]:
    """Joins paragraphs while they fit into ``max_chars``."""
    packed = ""
    for piece in (piece for text in paragraphs for piece in _cut(text, max_chars)):
        if packed and len(packed) + 2 + len(piece) > max_chars:
            yield packed
            packed = piece
        else:
            packed += ("\n\n" if packed else "") + piece
    if packed:
        yield packed


def _cut(text: str, max_chars: int) -> Iterator[str]:
    """Cuts a long paragraph after a sentence, or after a word, or anywhere."""
    while len(text) > max_chars:
        head = text[:max_chars]
        ends = [m.end() for m in re.finditer(r"[.!?…][\"'”»)]*(?=\s)|[。！？]", head)]
        end = ends[-1] if ends and ends[-1] > max_chars // 2 else head.rfind(" ")
        end = end if end > 0 else max_chars
        yield text[:end].strip()
        text = text[end:].strip()
    if text:
        yield text
