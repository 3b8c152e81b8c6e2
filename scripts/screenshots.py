"""Takes pictures of the report and of TensorBoard for the docs; scripts/screenshots runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
FIT = [
    "fit",
    f"--config={ROOT}/configs/quickstart.yaml",
    "--input_jsonl=pairs.jsonl",
    "--output_dir=out",
    "--trainer.log_every_n_steps=1",
]
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-3d-apis"]
"""Without WebGL, TensorBoard draws curves as SVG, which screenshots show reliably."""


def shoot(address: str, target: Path, width: int, height: int, wait_ms: int) -> None:
    """Takes a screenshot, in 128 colours: a small file with sharp text."""
    subprocess.run(
        [
            *CHROMIUM,
            f"--window-size={width},{height}",
            f"--virtual-time-budget={wait_ms}",
            f"--screenshot={target}",
            address,
        ],
        check=True,
        capture_output=True,
        timeout=180,
    )
    with Image.open(target) as picture:
        small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def tensorboard(logs: Path) -> tuple[subprocess.Popen[str], str]:
    """Starts a server on a free port; returns it and its address once it has read the logs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    address = next(
        re.findall(r"http://\S+", line)[0] for line in server.stderr if "http://" in line
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{address}data/plugin/scalars/tags") as answer:
            if json.load(answer):
                break
        time.sleep(1)
    return server, address


def main(arguments: Sequence[str]) -> None:
    """Takes the pictures of a given run's folder, or of a run in a temporary folder."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            out = Path(arguments[0]).resolve()
        else:
            out = Path(folder) / "out"
            sample = ROOT / "embedft" / "sample_data" / "pairs.jsonl"
            (Path(folder) / "pairs.jsonl").write_bytes(sample.read_bytes())
            subprocess.run([sys.executable, "-m", "embedft", *FIT], cwd=folder, check=True)
        shoot((out / "report.html").as_uri(), IMAGES / "report.png", 1100, 1150, 3000)
        server, address = tensorboard(out / "logs")
        try:
            shoot(
                f"{address}?smoothing=0#timeseries", IMAGES / "tensorboard.png", 2000, 1250, 20000
            )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
