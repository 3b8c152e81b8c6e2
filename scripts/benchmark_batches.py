"""Speed and peak memory of large batches with GradCache, and of two ranks against one process.

Runs ``python -m embedft fit`` for a few steps, alternating, and reads the pairs/s that it logs.

    python scripts/benchmark_batches.py --input_jsonl pairs.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.tools.text import plain_table
from scripts.benchmark_common import (
    MINILM,
    machine,
    machine_line,
    median_ratio,
    ratio_text,
)

CHUNKS = {
    "batch 32": (["--batch_size=32"], 24, 8),
    "batch 1,024, chunk 32": (["--batch_size=1024", "--model.chunk_size=32"], 3, 1),
    "batch 1,024": (["--batch_size=1024"], 3, 1),
}
RANKS = {
    "1 process, 2 threads": (["--batch_size=32"], 64, 16),
    "2 ranks, 1 thread each": (["--batch_size=16", "--devices=2", "--strategy=ddp"], 64, 16),
}


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Waits for a process, and returns its peak RSS in MB."""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a run failed with status {status}")
    return usage.ru_maxrss / 1e3


def run(
    pairs: Path, held_out: Path, flags: list[str], steps: int, every: int, threads: int
) -> tuple[float, float]:
    """Pairs/s after the first ``every`` steps, and the peak memory of the first process in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "embedft", "fit", f"--output_dir={folder}/out"]
        command += [f"--input_jsonl={pairs}", f"--validation_jsonl={held_out}", *flags]
        command += [f"--trainer.max_steps={steps}", f"--trainer.log_every_n_steps={every}"]
        command += ["--trainer.enable_progress_bar=false", "--epochs=99"]
        command += ["--accelerator=cpu", "--evaluation_steps=100000"]
        process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        memory = peak_memory(process)
        lines = (Path(folder) / "out" / "training_metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(line).get("train/pairs_per_second") for line in lines]
    known = [speed for speed in speeds if speed is not None]
    return statistics.median(known[1:]), memory


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--input_jsonl",
        required=True,
        help="3,200 pairs, 100 of them held out; with fewer, the large batches are smaller",
    )
    parser.add_argument("--base_model", default=MINILM)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["chunks", "ranks"])
    arguments = parser.parse_args()
    lines = Path(arguments.input_jsonl).read_bytes().splitlines()[:3200]
    print(machine_line(machine(), 2, "cpu"))
    with tempfile.TemporaryDirectory() as folder:
        pairs, held_out = Path(folder) / "pairs.jsonl", Path(folder) / "held-out.jsonl"
        pairs.write_bytes(b"\n".join(lines[:-100]))
        held_out.write_bytes(b"\n".join(lines[-100:]))
        for name, ways in (("chunks", CHUNKS), ("ranks", RANKS)):
            if arguments.only not in (None, name):
                continue
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way, (flags, steps, every) in ways.items():
                    threads = 1 if "--devices=2" in flags else 2
                    flags = [*flags, f"--precision={arguments.precision}"]
                    flags += [f"--base_model={arguments.base_model}"]
                    found[way].append(run(pairs, held_out, flags, steps, every, threads))
                    print(f"{way}: {found[way][-1][0]:.1f} pairs/s", file=sys.stderr, flush=True)
            first = next(iter(ways))
            head = [arguments.precision, "pairs/s", "ratio", "peak memory, MB", "ratio"]
            table = []
            for way, rounds in found.items():
                row = [way]
                for digits, values, baseline in zip(
                    (1, 0), zip(*rounds, strict=True), zip(*found[first], strict=True), strict=True
                ):
                    row += [f"{statistics.median(values):.{digits}f}"]
                    row += [ratio_text(median_ratio(values, baseline))]
                table.append(row)
            print(f"\n{plain_table(head, table)}")


if __name__ == "__main__":
    main()
