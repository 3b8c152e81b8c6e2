"""Times what surrounds training, with embedft and with sentence-transformers, alternating.

    python scripts/benchmark_around.py --input_jsonl pairs.jsonl
    python scripts/benchmark_around.py --input_jsonl pairs.jsonl --only read --rows 10000 1000000

start: from the start of the process to the first optimiser step, on an empty cache and again.
validate: one pass over the held-out tenth against all answers, and the whole call with reading and
    tokenising. sentence-transformers uses its InformationRetrievalEvaluator.
predict: embedding all answers of the file. sentence-transformers uses SentenceTransformer.encode.
read: from JSONL to the first batch, on an empty cache and again, and planning one epoch.
    sentence-transformers uses load_dataset("json"), map(tokenize, batched=True), and its sampler
    without duplicates. The rows of the file are repeated, with a running number in each text.

Each run is a process of its own; rounds alternate which library comes first. Times are medians of
the rounds. "peer" in the output is sentence-transformers. "embedft is faster" is the time of a line
over that of embedft, the first line of its kind: the median of the rounds, with the smallest and
largest. Files go to a temporary folder that is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.tools.text import plain_table
from scripts.benchmark_common import (
    MINILM,
    Job,
    Worker,
    distinct_pairs,
    environment,
    locate_model,
    machine,
    machine_line,
    median_ratio,
    numbered_pairs,
    publish,
    ratio_text,
    round_order,
    run_worker,
    sample_pairs,
    serve,
    start_torch,
    write_pairs,
)

PARTS = ("start", "validate", "predict", "read")
EMBEDFT_BATCH = 64  # its default when embedding
PEER_BATCH = 32  # the default of sentence-transformers


# Workers of embedft.


def _embedding_trainer(job: Job, *callbacks: Any) -> tuple[Any, dict[str, float]]:
    """A trainer for one pass without training, and the times at which the pass began and ended."""
    from lightning.pytorch import Callback

    from embedft.training.trainer import EmbedftTrainer

    times: dict[str, float] = {}

    class Span(Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            times["began"] = time.perf_counter()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            times["ended"] = time.perf_counter()

        def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
            times["began"] = time.perf_counter()

        def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
            times["ended"] = time.perf_counter()

    trainer = EmbedftTrainer(
        accelerator=job["device"],
        devices=1,
        precision=job["precision"],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[Span(), *callbacks],
    )
    return trainer, times


def _embedft(job: Job, **settings: Any) -> tuple[Any, Any]:
    """Module and datamodule."""
    from embedft.data.datamodule import EmbeddingDataModule
    from embedft.training.module import EmbeddingModule

    module = EmbeddingModule(base_model=job["folder"])
    return module, EmbeddingDataModule(cache_dir=job["cache_dir"], **settings)


def validate_embedft(job: Job) -> Job:
    """Worker: the trainer's validate on the held-out pairs."""
    start_torch(job)
    module, data = _embedft(
        job,
        input_jsonl=job["train_jsonl"],
        validation_jsonl=job["validation_jsonl"],
        eval_batch_size=job["batch_size"],
    )
    trainer, times = _embedding_trainer(job)
    began = time.perf_counter()
    scores = trainer.validate(module, datamodule=data, verbose=False)[0]
    return {
        "whole_seconds": time.perf_counter() - began,
        "seconds": times["ended"] - times["began"],
        "score": float(scores["val/ndcg@10"]),
    }


def predict_embedft(job: Job) -> Job:
    """Worker: the trainer's predict on a file of answers, written as ``.npy``."""
    start_torch(job)
    from embedft.run.predictions import PredictionWriter

    module, data = _embedft(
        job, input_jsonl=job["answers_jsonl"], eval_batch_size=job["batch_size"]
    )
    folder = Path(job["output"])
    folder.mkdir(parents=True, exist_ok=True)
    trainer, times = _embedding_trainer(job, PredictionWriter(folder))
    began = time.perf_counter()
    trainer.predict(module, datamodule=data, return_predictions=False)
    return {
        "whole_seconds": time.perf_counter() - began,
        "seconds": times["ended"] - times["began"],
        "embeddings": str(folder / "answer_embeddings.npy"),
    }


def read_embedft(job: Job) -> Job:
    """Worker: from the file to the first batch, and a plan of an epoch."""
    start_torch(job)
    module, data = _embedft(job, input_jsonl=job["rows_jsonl"], batch_size=job["batch_size"])
    began = time.perf_counter()
    data.load(module.encoder, needs_labels=False)
    loaded = time.perf_counter()
    batches = data.train_batches(0)
    planned = time.perf_counter()
    tokens = len(batches[0].input_ids)
    return {
        "seconds": time.perf_counter() - began,
        "load_seconds": loaded - began,
        "plan_seconds": planned - loaded,
        "batches": len(batches),
        "tokens_of_first_batch": tokens,
    }


# Workers of sentence-transformers.


def _sentence_transformer(job: Job) -> Any:
    """The model in the job's precision."""
    from sentence_transformers import SentenceTransformer

    dtype = "bfloat16" if job["precision"] == "bf16-mixed" else "float32"
    return SentenceTransformer(job["folder"], device=job["device"], model_kwargs={"dtype": dtype})


def start_peer(job: Job) -> Job:
    """Worker: a training script as in its documentation; writes a file after the first step."""
    start_torch(job)
    from datasets import load_dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import TrainerCallback

    class Mark(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            Path(job["mark"]).write_text("1", encoding="utf-8")

    rows = load_dataset("json", data_files=job["rows_jsonl"], split="train")
    parts = rows.train_test_split(test_size=0.1, seed=42)
    model = SentenceTransformer(job["folder"], device=job["device"])
    settings = SentenceTransformerTrainingArguments(
        output_dir=job["output"],
        num_train_epochs=3,
        max_steps=1,
        per_device_train_batch_size=16,
        learning_rate=2e-5,
        bf16=job["precision"] == "bf16-mixed",
        use_cpu=job["device"] == "cpu",
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        dataloader_pin_memory=job["device"] == "cuda",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(
        model=model,
        args=settings,
        train_dataset=parts["train"].select_columns(["question", "answer"]),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[Mark()],
    ).train()
    return {}


def validate_peer(job: Job) -> Job:
    """Worker: InformationRetrievalEvaluator on the same questions and answers."""
    start_torch(job)
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    model = _sentence_transformer(job)
    began = time.perf_counter()
    held_out = distinct_pairs(job["validation_jsonl"])
    answers = [answer for _, answer in held_out + distinct_pairs(job["train_jsonl"])]
    evaluate = InformationRetrievalEvaluator(
        {str(number): question for number, (question, _) in enumerate(held_out)},
        {str(number): answer for number, answer in enumerate(answers)},
        {str(number): {str(number)} for number in range(len(held_out))},
        batch_size=job["batch_size"],
        write_csv=False,
    )
    ready = time.perf_counter()
    scores = evaluate(model)
    ended = time.perf_counter()
    score = next(value for name, value in scores.items() if name.endswith("cosine_ndcg@10"))
    return {"whole_seconds": ended - began, "seconds": ended - ready, "score": float(score)}


def predict_peer(job: Job) -> Job:
    """Worker: encode on the same answers."""
    start_torch(job)
    import numpy as np

    model = _sentence_transformer(job)
    began = time.perf_counter()
    with Path(job["answers_jsonl"]).open(encoding="utf-8") as stream:
        answers = [json.loads(line)["answer"] for line in stream]
    ready = time.perf_counter()
    vectors = model.encode(answers, batch_size=job["batch_size"], show_progress_bar=False)
    ended = time.perf_counter()
    path = Path(job["output"]) / "answer_embeddings.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, vectors)
    return {
        "whole_seconds": ended - began,
        "seconds": ended - ready,
        "embeddings": str(path),
    }


def read_peer(job: Job) -> Job:
    """Worker: the same rows with the datasets library and sentence-transformers' sampler."""
    start_torch(job)
    import torch
    from datasets import load_dataset
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    model = _sentence_transformer(job)
    tokenizer, length = model.tokenizer, model.max_seq_length

    def tokenize(columns: Any) -> Any:
        return {
            name: tokenizer(columns[name], truncation=True, max_length=length)["input_ids"]
            for name in ("question", "answer")
        }

    began = time.perf_counter()
    rows = load_dataset("json", data_files=job["rows_jsonl"], split="train")
    tokens = rows.map(tokenize, batched=True)
    loaded = time.perf_counter()
    sampler = NoDuplicatesBatchSampler(
        rows,
        batch_size=job["batch_size"],
        drop_last=False,
        generator=torch.Generator(),
        seed=42,
    )
    first = tokens[next(iter(sampler))]
    count = sum(len(text) for column in first.values() for text in column)
    read = time.perf_counter()
    batches = sum(1 for _ in sampler)
    return {
        "seconds": read - began,
        "load_seconds": loaded - began,
        "plan_seconds": time.perf_counter() - read,
        "batches": batches,
        "tokens_of_first_batch": count,
    }


def compare_embeddings(job: Job) -> Job:
    """Worker: the mean and the smallest cosine between two files of embeddings."""
    import numpy as np

    first, second = (np.load(path).astype(np.float64) for path in job["files"])
    cosines = (first * second).sum(1)
    cosines /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return {"mean": float(cosines.mean()), "least": float(cosines.min())}


WORKERS: dict[str, Worker] = {
    "locate": locate_model,
    "start_peer": start_peer,
    "validate_embedft": validate_embedft,
    "validate_peer": validate_peer,
    "predict_embedft": predict_embedft,
    "predict_peer": predict_peer,
    "read_embedft": read_embedft,
    "read_peer": read_peer,
    "compare": compare_embeddings,
}


# The parent.


def worker(name: str, job: Job) -> Job:
    """Runs one of this script's workers; caches lie in the job's folder."""
    return run_worker(__file__, name, job, job["threads"], _cache_variables(job))


def _cache_variables(job: Job) -> dict[str, str]:
    return {"XDG_CACHE_HOME": job["cache_dir"], "HF_DATASETS_CACHE": job["cache_dir"]}


def time_start(side: str, job: Job, output: Path) -> Job:
    """Seconds from the start of a process to its first optimiser step.

    Raises:
        SystemExit: The process ended without one.
    """
    mark = output / ("training_metrics.jsonl" if side == "embedft" else "mark")
    log = output.with_suffix(".log")
    if side == "embedft":
        command = [sys.executable, "-m", "embedft", "fit", f"--input_jsonl={job['rows_jsonl']}"]
        command += [f"--base_model={job['folder']}", f"--output_dir={output}"]
        command += [f"--precision={job['precision']}", f"--accelerator={job['device']}"]
        command += ["--trainer.num_sanity_val_steps=0", "--trainer.log_every_n_steps=1"]
        command += ["--trainer.enable_progress_bar=false"]
    else:
        output.mkdir()
        job_file = output / "job.json"
        job_file.write_text(json.dumps(job | {"mark": str(mark), "output": str(output)}), "utf-8")
        command = [sys.executable, __file__, "--worker", "start_peer", str(job_file)]
        command += [str(output / "result.json")]
    variables = environment(job["threads"]) | _cache_variables(job)
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=variables, stdout=stream, stderr=stream)
        try:
            while not (mark.is_file() and mark.stat().st_size) and process.poll() is None:
                time.sleep(0.005)
            seconds = time.perf_counter() - began
        finally:
            process.kill()
            process.wait()
    if not mark.is_file():
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise SystemExit(f"{tail}\nbenchmark: error: {side} ended before its first step")
    return {"seconds": seconds}


def part_start(job: Job, rounds: int, scratch: Path) -> dict[str, list[Job]]:
    """Start to first step, on empty caches and again."""
    results: dict[str, list[Job]] = {}
    for number in range(rounds):
        for side in round_order(number, ("embedft", "peer")):
            caches = {"cache_dir": str(scratch / f"cache-start-{side}-{number}")}
            for again in ("", ", again"):
                output = scratch / f"start-{side}-{number}{'-again' if again else ''}"
                note(results, f"{side}{again}", time_start(side, job | caches, output))
    order = ("embedft", "peer", "embedft, again", "peer, again")
    return {name: results[name] for name in order}


def variants(job: Job) -> dict[str, tuple[str, Job]]:
    """Variants of embedding, by name: library and settings. The first is embedft's best."""
    ways: dict[str, tuple[str, Job]] = {}
    bf16, fp32 = {"precision": "bf16-mixed"}, {"precision": "32-true"}
    large, usual = {"batch_size": EMBEDFT_BATCH}, {"batch_size": PEER_BATCH}
    if job["best_precision"] == "bf16-mixed":
        ways["embedft, bf16"] = "embedft", bf16 | large
        ways[f"peer, bf16, batch {EMBEDFT_BATCH}"] = "peer", bf16 | large
    ways["embedft, fp32"] = "embedft", fp32 | large
    ways[f"peer, fp32, batch {PEER_BATCH}"] = "peer", fp32 | usual
    return ways


def part_embedding(part: str, job: Job, rounds: int, scratch: Path) -> dict[str, list[Job]]:
    """``validate`` or ``predict`` in all variants."""
    results: dict[str, list[Job]] = {}
    ways = variants(job)
    for number in range(rounds):
        for name in round_order(number, list(ways)):
            side, settings = ways[name]
            folders = {
                "cache_dir": str(scratch / f"cache-{part}-{number}-{name}"),
                "output": str(scratch / f"{part}-{name.replace(' ', '-')}"),
            }
            note(results, name, worker(f"{part}_{side}", job | settings | folders))
    return {name: results[name] for name in ways}


def part_read(job: Job, rounds: int, scratch: Path, rows: int) -> dict[str, list[Job]]:
    """Reading a file of ``rows`` rows, on an empty cache and again."""
    results: dict[str, list[Job]] = {}
    pairs = distinct_pairs(job["rows_jsonl"])
    path = write_pairs(scratch / "rows.jsonl", numbered_pairs(pairs, rows))
    for number in range(rounds):
        for side in round_order(number, ("embedft", "peer")):
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                files = {"rows_jsonl": str(path), "cache_dir": cache, "batch_size": 16}
                for again in ("", ", again"):
                    note(results, f"{side}{again}", worker(f"read_{side}", job | files))
    path.unlink()
    order = ("embedft", "peer", "embedft, again", "peer, again")
    return {name: results[name] for name in order}


def note(results: dict[str, list[Job]], name: str, result: Job) -> None:
    """Keeps a result and prints its time."""
    results.setdefault(name, []).append(result)
    print(f"{name}: {result['seconds']:.2f} s", file=sys.stderr)


COLUMNS = {
    "start": {"seconds": "to the first step, s"},
    "validate": {"seconds": "pass, s", "whole_seconds": "with reading, s", "score": "nDCG@10"},
    "predict": {"seconds": "pass, s", "whole_seconds": "with reading, s"},
    "read": {
        "seconds": "to the first batch, s",
        "load_seconds": "reading and tokenising, s",
        "plan_seconds": "planning an epoch, s",
    },
}


def part_table(part: str, results: dict[str, list[Job]], texts: int | None = None) -> str:
    """The table of a part."""
    ratios = ["seconds", "whole_seconds"] if "whole_seconds" in COLUMNS[part] else ["seconds"]
    head = ["", *COLUMNS[part].values(), "peak memory, MB"]
    head += ["texts/s"] if texts else []
    head += [f"embedft is faster, {COLUMNS[part][key].removesuffix(', s')}" for key in ratios]
    rows = []
    for name, runs in results.items():
        first = "embedft, again" if name.endswith("again") else next(iter(results))
        row = [name]
        for key in [*COLUMNS[part], "peak_rss_mb"]:
            value = statistics.median(run.get(key, 0.0) for run in runs)
            row.append(f"{value:.4f}" if key == "score" else _number(value))
        if texts:
            row.append(f"{texts / statistics.median(run['seconds'] for run in runs):.0f}")
        for key in ratios:
            pair = ([run[key] for run in runs], [run[key] for run in results[first]])
            row.append("" if name == first else ratio_text(median_ratio(*pair)))
        rows.append(row)
    return plain_table(head, rows)


def _number(value: float) -> str:
    if not value:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def run(args: argparse.Namespace, scratch: Path) -> tuple[Job, list[str]]:
    """The parts of ``--only``: raw results, and Markdown sections."""
    pairs = distinct_pairs(args.input_jsonl)
    if args.pairs:
        pairs = sample_pairs(args.input_jsonl, args.pairs)
    if len(pairs) < 40:
        raise SystemExit(f"benchmark: error: {args.input_jsonl}: fewer than 40 distinct pairs")
    job: Job = {
        "base_model": args.base_model,
        "device": args.device,
        "threads": args.threads,
        "scratch": str(scratch),
        "cache_dir": str(scratch / "cache"),
        "rows_jsonl": str(write_pairs(scratch / "pairs.jsonl", pairs)),
        "train_jsonl": str(
            write_pairs(scratch / "train.jsonl", [p for i, p in enumerate(pairs) if i % 10])
        ),
        "validation_jsonl": str(write_pairs(scratch / "validation.jsonl", pairs[::10])),
        # one question for all rows, so that almost only answers are embedded
        "answers_jsonl": str(
            write_pairs(scratch / "answers.jsonl", [("?", answer) for _, answer in pairs])
        ),
    }
    job |= worker("locate", job)
    job["precision"] = job["best_precision"]
    result: Job = {"pairs": len(pairs)}
    sections = []
    for part, title, texts, results in _parts(args, job, scratch, len(pairs)):
        result[title] = results
        sections.append(f"{title}\n\n{part_table(part, results, texts)}")
        if part == "predict":
            first, *others = results
            for other in others:
                files = [results[name][-1]["embeddings"] for name in (first, other)]
                cosine = worker("compare", job | {"files": files})
                result.setdefault("cosines", {})[other] = cosine
                sections.append(
                    f"Cosine of {first} and {other}: mean {cosine['mean']:.5f}, "
                    f"least {cosine['least']:.5f}."
                )
    return result, sections


def _parts(
    args: argparse.Namespace, job: Job, scratch: Path, pairs: int
) -> Iterator[tuple[str, str, int | None, dict[str, list[Job]]]]:
    if "start" in args.only:
        title = f"Start to first step, {pairs} pairs, batch 16, {job['precision']}"
        yield "start", title, None, part_start(job, args.rounds, scratch)
    if "validate" in args.only:
        texts = pairs + len(range(0, pairs, 10))
        title = f"Validation, {texts - pairs} questions, {pairs} answers"
        yield (
            "validate",
            title,
            texts,
            part_embedding("validate", job, args.rounds, scratch),
        )
    if "predict" in args.only:
        title = f"Embedding {pairs} answers"
        yield "predict", title, pairs, part_embedding("predict", job, args.rounds, scratch)
    if "read" in args.only:
        for rows in args.rows:
            title = f"Reading {rows} rows"
            yield "read", title, None, part_read(job, args.rounds, scratch, rows)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input_jsonl", required=True, help="JSONL with question and answer")
    parser.add_argument("--base_model", default=MINILM, help="folder, hub id, or mpnet-shape")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="only these parts")
    parser.add_argument("--pairs", type=int, help="pairs of the file; default: all")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000], help="rows to read")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", help="folder for the temporary folder")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE")
    return parser.parse_args()


def main() -> None:
    """Times the parts and prints their tables."""
    if sys.argv[1:2] == ["--worker"]:
        serve(WORKERS, sys.argv[2:])
        return
    args = parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=args.scratch) as folder:
        result, sections = run(args, Path(folder))
    head = machine_line(facts, args.threads, args.device) + f"\nRounds: {args.rounds}."
    result = {"machine": facts, "rounds": args.rounds, "threads": args.threads} | result
    publish("\n\n".join([head, *sections]), result, args.json, args.markdown)


if __name__ == "__main__":
    main()
