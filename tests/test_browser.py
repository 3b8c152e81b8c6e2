"""The report in a real browser: it renders and fits, without network and without JavaScript."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tiny import sample_rows, write_jsonl

from embedft.cli.main import main

pytestmark = [
    pytest.mark.docs,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH"),
]

MEASURE = """
<script>
const texts = [...document.querySelectorAll("svg")].map(svg => [...svg.querySelectorAll("text")]
  .filter(text => !/rotate\\(-?[1-9]/.test(text.outerHTML))
  .map(text => [text.textContent, text.getBoundingClientRect()]));
const overlaps = texts.flatMap(boxes => boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
  .filter(([other, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
  .map(([other]) => one + " | " + other)));
const outside = [...document.querySelectorAll("svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  }).map(text => text.textContent);
});
document.body.textContent = JSON.stringify({
  width: document.documentElement.scrollWidth, window: innerWidth,
  texts: texts.flat().length, overlaps, outside,
});
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The report of a short fit with very long file names."""
    folder = tmp_path_factory.mktemp("browser")
    rows = [row | {"file_name": 12 * row["file_name"]} for row in sample_rows()[:60]]
    main(
        [
            "fit",
            f"--input_jsonl={write_jsonl(folder / 'pairs.jsonl', rows)}",
            f"--output_dir={folder / 'out'}",
            f"--base_model={tiny_model}",
            "--epochs=2",
            "--batch_size=8",
            "--learning_rate=1e-3",
            "--train_split=0.5",
            "--accelerator=cpu",
            "--precision=32-true",
            "--trainer.enable_progress_bar=false",
            "--trainer.log_every_n_steps=1",
        ]
    )
    return folder / "out" / "report.html"


def chromium(page: Path, *flags: str) -> tuple[str, str]:
    """What the browser prints to standard output and to standard error."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=2000", *flags, page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, result.stderr


def test_renders_without_network_or_errors(report: Path, tmp_path: Path) -> None:
    shot, net = tmp_path / "shot.png", tmp_path / "net.json"
    _, said = chromium(
        report, f"--screenshot={shot}", f"--log-net-log={net}", "--window-size=1100,3000"
    )
    assert "CONSOLE" not in said, "the page has no error, and its security policy refuses nothing"
    addresses = set(re.findall(r'"(https?://[^"]+)"', net.read_text()))
    browsers = ("google", "gstatic", "gvt1", "chromium")  # requests of the browser itself
    assert not [url for url in addresses if not any(name in url for name in browsers)]
    with Image.open(shot) as picture:
        assert picture.size == (1100, 3000)
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    counts = {colour: count for count, colour in colours}
    assert counts[(255, 255, 255)] > 0.5 * 1100 * 3000
    for drawn in ((0x2B, 0x86, 0xD9), (0x8A, 0x94, 0xA3)):
        assert counts[drawn] > 5000, "bars of the tuned and of the base model"


def test_dark_mode_is_dark(report: Path, tmp_path: Path) -> None:
    """Figures take the page's colours: no white area is left, and text is readable."""
    shot = tmp_path / "dark.png"
    chromium(
        report,
        f"--screenshot={shot}",
        "--window-size=1100,2000",
        "--blink-settings=preferredColorScheme=0",
    )
    with Image.open(shot) as picture:
        shades = picture.convert("L").histogram()
    assert sum(shades[:64]) > 0.7 * sum(shades)
    assert sum(shades[200:]) > 0.002 * sum(shades)


@pytest.mark.parametrize("width", [1100, 500])
def test_nothing_overlaps_or_is_outside_its_figure(
    report: Path, tmp_path: Path, width: int
) -> None:
    """A script in a copy of the page measures the browser's layout."""
    copy = tmp_path / "copy.html"
    html = re.sub(r"<meta http-equiv[^>]*>", "", report.read_text())
    copy.write_text(html.replace("</body>", f"{MEASURE}</body>"))
    dom, _ = chromium(copy, "--dump-dom", f"--window-size={width},1000")
    found = re.search(r"<body>(.*)</body>", dom, re.DOTALL)
    assert found is not None
    layout = json.loads(found[1])
    assert layout["texts"] > 80
    assert layout["overlaps"] == layout["outside"] == []
    assert layout["width"] <= layout["window"]


def test_needs_no_javascript(report: Path) -> None:
    """The browser's document has all parts, and none of them is a script."""
    dom, _ = chromium(report, "--dump-dom")
    for part in ("Verdict", "nDCG@10", "<svg", "held-out questions", "relevant answer"):
        assert part in dom
    assert not re.search(r"<script|\son\w+=|javascript:", dom)
    assert "default-src 'none'" in dom  # the page itself forbids scripts
