"""Pictures of the report and of TensorBoard for the docs, by headless Chromium: see screenshots."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
FIT = [
    "fit",
    f"--config={ROOT}/configs/recommended.yaml",
    f"--config={ROOT}/configs/quickstart.yaml",
    "--input_jsonl=pairs.jsonl",
    "--output_dir=out",
    "--epochs=4",
    "--evaluation_steps=3",
    "--trainer.log_every_n_steps=1",
]
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]


def shoot(address: str, target: Path, width: int, height: int, wait_ms: int) -> None:
    """One screenshot, in 128 colours: small, and text stays sharp."""
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
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://\S+", line):
            return server, found[0]
    raise RuntimeError(f"TensorBoard did not start: exit status {server.wait()}")


def main(arguments: Sequence[str]) -> None:
    """Trains in a temporary folder, or takes the folder of a run that is given."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments:
            out = Path(arguments[0]).resolve()
        else:
            out = Path(folder) / "out"
            sample = ROOT / "embedft" / "sample_data" / "pairs.jsonl"
            (Path(folder) / "pairs.jsonl").write_bytes(sample.read_bytes())
            subprocess.run([sys.executable, "-m", "embedft", *FIT], cwd=folder, check=True)
        shoot((out / "report.html").as_uri(), IMAGES / "report.png", 1100, 2350, 3000)
        server, address = tensorboard(out / "logs")
        try:
            shoot(
                f"{address}?smoothing=0#timeseries", IMAGES / "tensorboard.png", 2000, 1250, 60000
            )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
