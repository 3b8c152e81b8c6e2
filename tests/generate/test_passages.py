from __future__ import annotations

from pathlib import Path

import pytest

from embedft.errors import InputError
from embedft.generate.passages import Passage, find_files, read_passages

MARKDOWN = """# Silicon anodes

Silicon swells by about 300% on lithiation and breaks. The pieces lose contact with the copper foil.

## Binders ##

Crosslinked alginate re-forms its hydrogen bonds, so 83% of 2,100 mAh/g remained after 200 cycles.

Short.
"""

TEI = """<?xml version="1.0" encoding="UTF-8"?>
<TEI xml:space="preserve" xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt>
<title level="a" type="main">On binders</title></titleStmt></fileDesc><profileDesc><abstract>
<div><p><s>We compared binders.</s><s>Alginate holds best in every cell.</s></p></div></abstract>
</profileDesc></teiHeader><text xml:lang="en"><body>
<div><head n="1">Intro &amp; aims</head><p>Silicon swells <ref type="bibr" target="#b0">[1]</ref>,
as <ref type="figure">Fig. 1</ref> shows.<formula>x=1</formula></p><p>It breaks — für immer.</p></div>
<figure><head>Figure 1</head><figDesc>A drawing of a cell.</figDesc></figure>
<note place="foot">A foot note of some length.</note></body>
<back><div type="references"><listBibl><biblStruct><p>A reference.</p></biblStruct></listBibl></div>
</back></text></TEI>"""


def test_markdown_is_cut_at_headings(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.md"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + MARKDOWN.replace("\n", "\r\n").encode())
    first, second = read_passages(path, tmp_path, min_chars=30, max_chars=500)
    assert first == Passage(
        "sub/a.md#p1",
        "sub/a.md",
        "Silicon anodes",
        "Silicon swells by about 300% on lithiation and breaks. The pieces lose contact with the "
        "copper foil.",
    )
    assert second.id == "sub/a.md#p2"
    assert second.heading == "Binders"
    assert second.text.endswith("after 200 cycles.\n\nShort.")


def test_tei_is_read_without_references_and_figures(tmp_path: Path) -> None:
    path = tmp_path / "a.grobid.tei.xml"
    path.write_text(TEI, "utf-8")
    passages = read_passages(path, tmp_path, min_chars=10, max_chars=500)
    assert [(passage.heading, passage.text) for passage in passages] == [
        ("Abstract", "We compared binders. Alginate holds best in every cell."),
        ("Intro & aims", "Silicon swells, as Fig. 1 shows.\n\nIt breaks — für immer."),
    ]


def test_long_paragraphs_are_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    text = " ".join(f"Sentence {number} has some words." for number in range(80))
    texts = {"spaced": text, "unspaced": "字" * 700, "chinese": "硅负极在锂化时膨胀并破裂。" * 60}
    for name, content in texts.items():
        path = tmp_path / f"{name}.txt"
        path.write_text(content, "utf-8")
        passages = read_passages(path, tmp_path, min_chars=1, max_chars=200)
        assert all(len(passage.text) <= 200 for passage in passages)
        joined = "".join(passage.text for passage in passages)
        assert "".join(joined.split()) == "".join(content.split())
        if name != "unspaced":
            assert all(passage.text[-1] in ".。" for passage in passages)


LAUGHS = """<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>
<TEI xmlns="http://www.tei-c.org/ns/1.0"><text><body><p>&b;</p></body></text></TEI>"""
FILE = LAUGHS.replace('"&a;&a;"', 'SYSTEM "file:///etc/passwd"')


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.xml", LAUGHS.encode(), "declares a DTD or entities"),
        ("a.xml", FILE.encode(), "declares a DTD or entities"),
        ("a.tei.xml", TEI.encode()[:700], "not well-formed XML"),
        ("a.xml", b"", "not well-formed XML"),
        ("a.xml", b"<html/>", "is not TEI: its root is <html>"),
        ("a.txt", "für".encode("latin-1"), r"not UTF-8 \(byte 0xfc at position 2\)"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {reason}"):
        read_passages(tmp_path / name, tmp_path, 1, 500)


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_files(tmp_path / "none")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.txt").write_text("not a text of the user's")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(InputError, match="holds no .txt, .md, .xml files"):
        find_files(tmp_path)


def test_links_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (tmp_path / "services.txt").write_text("secret")
    (folder / "a.txt").write_text("text")
    (folder / "b.txt").symlink_to("../services.txt")
    (folder / "c.txt").symlink_to("a.txt")
    assert [path.name for path in find_files(folder)] == ["a.txt", "c.txt"]
