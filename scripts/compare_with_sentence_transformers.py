"""Trains the same split with embedft and with sentence-transformers, and compares the results.

    python scripts/compare_with_sentence_transformers.py --input_jsonl pairs.jsonl

Both start from the same weights and use the same training rows, batch size, learning rate, warm-up,
weight decay, clipping, epochs and precision. The base model and both tuned models are evaluated by
the InformationRetrievalEvaluator of sentence-transformers: held-out questions against all distinct
answers of the file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.table.record import Record, normalize_text
from scripts.benchmark_common import MINILM, model_root
from scripts.peer import PeerSettings, is_relevant, train_peer
from scripts.split_file import split_file

METRICS = ("ndcg@10", "mrr@10", "accuracy@1", "recall@10", "map@100")


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--input_jsonl", required=True)
    parser.add_argument("--output_dir", default="comparison_out")
    parser.add_argument("--base_model", default=MINILM)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--train_split", type=float, default=0.9)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="bf16-mixed")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def train_embedft(args: argparse.Namespace, folder: Path) -> Path:
    """Trains with the command line, as a user would; returns the model's folder."""
    flags = {
        "input_jsonl": args.input_jsonl,
        "output_dir": folder,
        "base_model": args.base_model,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "train_split": args.train_split,
        "precision": args.precision,
        "seed": args.seed,
        "trainer.enable_progress_bar": "false",
    }
    command = [sys.executable, "-m", "embedft", "fit"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    subprocess.run([*command, "--overwrite"], check=True)
    return folder / "final_model"


def evaluator(records: list[Record], held_out: list[Record]) -> InformationRetrievalEvaluator:
    """Held-out questions against all distinct answers."""
    corpus = {normalize_text(record.answer): record.answer for record in reversed(records)}
    queries: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    for record in filter(is_relevant, held_out):
        key = normalize_text(record.question)
        queries.setdefault(key, record.question)
        relevant.setdefault(key, set()).add(normalize_text(record.answer))
    return InformationRetrievalEvaluator(queries, corpus, relevant, batch_size=64)


def measure(evaluate: Any, folder: Path) -> dict[str, float]:
    """The evaluator's cosine metrics of a model folder."""
    scores = evaluate(SentenceTransformer(str(folder)))
    return {
        name: next(v for k, v in scores.items() if k.endswith(f"cosine_{name}")) for name in METRICS
    }


def main() -> None:
    """Trains both, evaluates three models, prints a Markdown table."""
    args = parse_args()
    out = Path(args.output_dir)
    records, train_rows, held_out_rows = split_file(args.input_jsonl, args.train_split, seed=42)
    train = [records[row] for row in train_rows]
    held_out = [records[row] for row in held_out_rows]
    root = model_root(args.base_model)
    seconds = {"base": 0.0}
    folders = {"base": root}

    began = time.perf_counter()
    folders["embedft"] = train_embedft(args, out / "embedft")
    seconds["embedft"] = time.perf_counter() - began
    began = time.perf_counter()
    settings = PeerSettings(
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        no_duplicates=True,
    )
    folders["sentence-transformers"], _ = train_peer(
        settings, train, root, out / "peer", precision=args.precision, seed=args.seed
    )
    seconds["sentence-transformers"] = time.perf_counter() - began

    evaluate = evaluator(records, held_out)
    print(
        f"\n{Path(args.input_jsonl).name}: {len(train)} training pairs, {len(held_out)} held out, "
        f"{len(evaluate.corpus)} distinct answers; {args.epochs} epochs, batch {args.batch_size}, "
        f"rate {args.learning_rate:g}, {args.precision}, seed {args.seed}, "
        f"{torch.get_num_threads()} threads\n"
    )
    print("| model | " + " | ".join(METRICS) + " | seconds |")
    print("|---" * (len(METRICS) + 2) + "|")
    for name, folder in folders.items():
        scores = measure(evaluate, folder)
        cells = " | ".join(f"{scores[metric]:.4f}" for metric in METRICS)
        print(f"| {name} | {cells} | {seconds[name]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
