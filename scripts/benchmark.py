"""Trains with embedft and with sentence-transformers, alternating, and prints how fast each is.

    python scripts/benchmark.py --input_jsonl pairs.jsonl --batch_size 16 --precision 32-true
    python scripts/benchmark.py --case a.jsonl:16:32-true --case a.jsonl:64:best:128:mpnet-shape

Both train the same weights on the same pairs in the same batches: AdamW with rate 2e-5 and weight
decay 0.01 (none on biases and norms), gradients clipped at 1.0, linear warm-up and decay over the
same steps. Each run is a process of its own; rounds alternate which library comes first. Before
that, both train 8 steps in float32 without dropout. If their losses differ, the exit status is 1.

pairs/s and tokens/s count the measured steps only, tokens without padding. A ratio is embedft's
pairs/s over those of sentence-transformers ("peer" in the output): the median of the rounds, with
the smallest and largest. "of GEMM limit" is a ratio of times: only the matrix products of the
model's linear layers, forward and backward for the same tokens, over a whole step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.tools.text import plain_table
from scripts.benchmark_common import (
    MINILM,
    Job,
    Worker,
    locate_model,
    machine,
    machine_line,
    median_ratio,
    publish,
    ratio_text,
    round_order,
    run_worker,
    sample_pairs,
    serve,
    start_torch,
    without_dropout,
    write_pairs,
)

if TYPE_CHECKING:
    import torch

SIDES = ("embedft", "peer")
CHECK_STEPS = 8
CHECK_TOLERANCE = 1e-4
VALIDATION_PAIRS = 4  # embedft needs held-out pairs; they are not evaluated here


# Workers: each runs in a process of its own.


class Clock:
    """Records when steps end, and their losses; waits for the device only before and after."""

    def __init__(self, job: Job) -> None:
        self.device = job["device"]
        self.warmup: int = job["warmup_steps"]
        self.total: int = job["total_steps"]
        self.ends: list[float] = []
        self.losses: list[torch.Tensor] = []

    def step(self, loss: torch.Tensor) -> None:
        """Records the end of a step."""
        self.losses.append(loss)
        if self.device == "cuda" and len(self.losses) in (self.warmup, self.total):
            import torch

            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def result(self) -> Job:
        """Seconds of all measured steps and of each one, and all losses."""
        if len(self.ends) != self.total:
            raise RuntimeError(f"{len(self.ends)} steps were made, {self.total} were asked for")
        ends = self.ends[self.warmup - 1 :]
        return {
            "seconds": ends[-1] - ends[0],
            "step_seconds": [end - start for start, end in itertools.pairwise(ends)],
            "losses": [float(loss) for loss in self.losses],
        }


def embedft_module(job: Job) -> Any:
    """Embedft's module and datamodule for a job."""
    from embedft.data.datamodule import EmbeddingDataModule
    from embedft.losses import MultipleNegativesRankingLoss
    from embedft.training.module import EmbeddingModule

    module = EmbeddingModule(
        base_model=job["folder"],
        loss=MultipleNegativesRankingLoss(symmetric=False),  # as sentence-transformers' by default
        learning_rate=2e-5,
        weight_decay=0.01,
        warmup_steps=job["schedule_warmup"],
        max_seq_length=job["max_seq_length"],
    )
    data = EmbeddingDataModule(
        input_jsonl=job["train_jsonl"],
        validation_jsonl=job["validation_jsonl"],
        batch_size=job["batch_size"],
        cache_dir=job["cache_dir"],
    )
    return module, data


def prepare(job: Job) -> Job:
    """Worker: embedft's plan of the batches, their tokens, and the model's linear layers."""
    start_torch(job)
    from collections import Counter

    from torch import nn

    module, data = embedft_module(job)
    encoder = module.encoder
    data.load(encoder, needs_labels=False)
    epoch = data.train_batches(0)
    batches = [epoch.plan[index].tolist() for index in range(job["total_steps"])]
    tokens = []
    for index, rows in enumerate(batches):
        pairs = [job["pairs"][row] for row in rows]
        texts = [encoder.query_text(question) for question, _ in pairs]
        texts += [encoder.document_text(answer) for _, answer in pairs]
        ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_seq_length)
        expected = sorted(token for text in ids["input_ids"] for token in text)
        if sorted(epoch[index].input_ids.tolist()) != expected or len(rows) != job["batch_size"]:
            raise RuntimeError(f"batch {index} is not made of the pairs that its plan names")
        tokens.append(len(expected))
    layers = Counter(
        tuple(layer.weight.shape)
        for layer in encoder.backbone.modules()
        if isinstance(layer, nn.Linear)
    )
    return {
        "batches": batches,
        "tokens": tokens,
        "layers": [[*shape, count] for shape, count in layers.items()],
        "max_seq_length": encoder.max_seq_length,
        "prompts": {"anchor": encoder.query_text(""), "positive": encoder.document_text("")},
    }


def train_embedft(job: Job) -> Job:
    """Worker: trains through Lightning, as ``fit`` does."""
    start_torch(job)
    from lightning.pytorch import Callback, seed_everything

    from embedft.training.trainer import EmbedftTrainer

    clock = Clock(job)

    class Steps(Callback):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            clock.step(outputs["loss"].detach())

    seed_everything(42, verbose=False)
    module, data = embedft_module(job)
    trainer = EmbedftTrainer(
        accelerator=job["device"],
        devices=1,
        precision=job["precision"],
        max_epochs=1,
        max_steps=job["total_steps"],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=10,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        callbacks=[Steps()],
    )
    trainer.fit(module, datamodule=data)
    return clock.result()


def train_peer(job: Job) -> Job:
    """Worker: trains with sentence-transformers' trainer, in the batches that embedft planned."""
    start_torch(job)
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    clock = Clock(job)
    batches: list[list[int]] = job["batches"]

    class PlannedBatches(DefaultBatchSampler):  # type: ignore[misc]  # untyped
        def __iter__(self) -> Any:
            return iter(batches)

        def __len__(self) -> int:
            return len(batches)

    class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]  # untyped
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            self.latest_loss = loss.detach()
            return loss

    class Steps(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step(trainer.latest_loss)

    model = SentenceTransformer(
        job["folder"], device=job["device"], model_kwargs={"dtype": "float32"}
    )
    model.max_seq_length = job["max_seq_length"]
    prompts = {column: prompt for column, prompt in job["prompts"].items() if prompt}
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=job["total_steps"],
            per_device_train_batch_size=job["batch_size"],
            learning_rate=2e-5,
            weight_decay=0.01,
            warmup_steps=job["schedule_warmup"],
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            bf16=job["precision"] == "bf16-mixed",
            use_cpu=job["device"] == "cpu",
            batch_sampler=PlannedBatches,
            prompts=prompts or None,
            dataloader_num_workers=0,
            dataloader_pin_memory=job["device"] == "cuda",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=42,
        )
        rows = {
            "anchor": [question for question, _ in job["pairs"]],
            "positive": [answer for _, answer in job["pairs"]],
        }
        trainer = Trainer(
            model=model,
            args=settings,
            train_dataset=Dataset.from_dict(rows),
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[Steps()],
        )
        trainer.train()
    return clock.result()


def measure_gemm(job: Job) -> Job:
    """Worker: seconds and FLOPs of the linear layers' products for ``rows`` tokens, best of 12."""
    start_torch(job)
    import torch

    dtype = torch.bfloat16 if job["precision"] == "bf16-mixed" else torch.float32
    seconds, flops = 0.0, 0
    for out, inner, count in job["layers"]:
        x_TI = torch.randn(job["rows"], inner, device=job["device"]).to(dtype)
        w_OI = torch.randn(out, inner, device=job["device"]).to(dtype)
        y_TO = torch.randn(job["rows"], out, device=job["device"]).to(dtype)
        for product in (
            lambda x=x_TI, w=w_OI: torch.nn.functional.linear(x, w),
            lambda y=y_TO, w=w_OI: y @ w,
            lambda y=y_TO, x=x_TI: y.T @ x,
        ):
            best = min(_seconds_of(product, job["device"]) for _ in range(12))
            seconds += count * best
            flops += count * 2 * job["rows"] * inner * out
    return {"seconds": seconds, "flops": flops, "gflops": flops / seconds / 1e9}


def _seconds_of(product: Any, device: str) -> float:
    import torch

    repeats = 20 if device == "cuda" else 1
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        product()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


WORKERS: dict[str, Worker] = {
    "locate": locate_model,
    "prepare": prepare,
    "embedft": train_embedft,
    "peer": train_peer,
    "gemm": measure_gemm,
}


# The parent.


def worker(name: str, job: Job) -> Job:
    """Runs one of this script's workers."""
    return run_worker(__file__, name, job, job["threads"])


def prepare_job(case: Job, args: argparse.Namespace, scratch: Path) -> Job:
    """A case with its pairs, its model's folder and embedft's plan."""
    steps = args.warmup_steps + args.steps
    planned = max(steps, CHECK_STEPS if args.check else 0)
    count = planned * case["batch_size"]
    pairs = sample_pairs(case["input_jsonl"], count + VALIDATION_PAIRS)
    job = case | {
        "device": args.device,
        "threads": args.threads,
        "warmup_steps": args.warmup_steps,
        "total_steps": planned,
        "schedule_warmup": max(1, steps // 10),
        "scratch": str(scratch),
        "cache_dir": str(scratch / "cache"),
        "pairs": pairs[:count],
        "train_jsonl": str(write_pairs(scratch / "train.jsonl", pairs[:count])),
        "validation_jsonl": str(write_pairs(scratch / "validation.jsonl", pairs[count:])),
    }
    job |= worker("locate", job)
    if job["precision"] == "best":
        job["precision"] = job["best_precision"]
    job |= worker("prepare", job)
    return job | {"total_steps": steps, "batches": job["batches"]}


def check_losses(job: Job, scratch: Path) -> Job:
    """Losses of both libraries in float32 without dropout, and the largest difference.

    Raises:
        SystemExit: They differ.
    """
    folder = scratch / "without_dropout"
    job = job | {
        "folder": str(without_dropout(job["folder"], folder)),
        "precision": "32-true",
        "warmup_steps": 1,
        "total_steps": CHECK_STEPS,
        "schedule_warmup": 1,
    }
    losses = {side: worker(side, job)["losses"] for side in SIDES}
    difference = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    if not difference <= CHECK_TOLERANCE:
        raise SystemExit(
            f"benchmark: error: {job['input_jsonl']}, batch {job['batch_size']}: in float32 "
            f"without dropout the losses differ by {difference:.2e}, more than {CHECK_TOLERANCE}"
        )
    return {"max_loss_difference": difference, **losses}


def measure(job: Job, rounds: int) -> Job:
    """All rounds of a case: raw results, and their summary for the table."""
    measured = job["tokens"][job["warmup_steps"] : job["total_steps"]]
    pairs = len(measured) * job["batch_size"]
    gemm_job = job | {"rows": round(sum(measured) / len(measured))}
    results: dict[str, list[Job]] = {side: [] for side in SIDES}
    limits = []
    for number in range(rounds):
        if number == 0 or job["device"] == "cpu":  # a GPU does not change its speed
            limits.append(worker("gemm", gemm_job))
        for side in round_order(number, SIDES):
            results[side].append(worker(side, job))
            seconds = results[side][-1]["seconds"]
            print(f"round {number + 1}: {side} {pairs / seconds:.1f} pairs/s", file=sys.stderr)
    limit = max(limits, key=lambda one: float(one["gflops"]))
    flops_per_token = limit["flops"] / gemm_job["rows"]
    summary: Job = {}
    for side, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        tokens_per_second = sum(measured) / seconds
        summary[side] = {
            "pairs_per_second": pairs / seconds,
            "tokens_per_second": tokens_per_second,
            "share_of_gemm_limit": tokens_per_second * flops_per_token / limit["gflops"] / 1e9,
            "peak_rss_mb": statistics.median(run["peak_rss_mb"] for run in runs),
            "peak_gpu_mb": statistics.median(run.get("peak_gpu_mb", 0.0) for run in runs),
        }
    return summary | {
        "ratio": median_ratio(
            (run["seconds"] for run in results["peer"]),
            (run["seconds"] for run in results["embedft"]),
        ),
        "tokens_per_batch": sum(measured) / len(measured),
        "gemm_gflops": limit["gflops"],
        "linear_flops_per_token": flops_per_token,
        "rounds": results,
    }


def run_case(case: Job, args: argparse.Namespace, checks: dict[str, Job]) -> Job:
    """Checks and measures one configuration.

    Args:
        case: The configuration.
        args: The command line.
        checks: Checks done so far; they do not depend on the precision.
    """
    key = json.dumps({name: case[name] for name in case if name != "precision"})
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        job = prepare_job(case, args, scratch)
        if args.check and key not in checks:
            checks[key] = check_losses(job, scratch)
        result = case | {
            "precision": job["precision"],
            "max_seq_length": job["max_seq_length"],
            "steps": args.steps,
            "warmup_steps": args.warmup_steps,
            "check": checks.get(key),
        }
        job["batches"] = job["batches"][: job["total_steps"]]
        return result | measure(job, args.rounds)


HEAD = (
    "pairs of",
    "model",
    "batch",
    "max length",
    "precision",
    "tokens a batch",
    "embedft pairs/s",
    "peer pairs/s",
    "embedft / peer",
    "embedft tokens/s",
    "peer tokens/s",
    "GEMM limit, GFLOPS",
    "embedft, of GEMM limit",
    "peer, of GEMM limit",
    "embedft memory, MB",
    "peer memory, MB",
    "loss difference without dropout",
)


def table_row(case: Job, device: str) -> list[str]:
    """The table's row of a case."""
    memory = "peak_gpu_mb" if device == "cuda" else "peak_rss_mb"
    ours, peer = case["embedft"], case["peer"]
    return [
        Path(case["input_jsonl"]).name,
        Path(case["base_model"]).name,
        str(case["batch_size"]),
        str(case["max_seq_length"]),
        case["precision"],
        f"{case['tokens_per_batch']:.0f}",
        f"{ours['pairs_per_second']:.1f}",
        f"{peer['pairs_per_second']:.1f}",
        ratio_text(case["ratio"]),
        f"{ours['tokens_per_second']:.0f}",
        f"{peer['tokens_per_second']:.0f}",
        f"{case['gemm_gflops']:.0f}",
        f"{ours['share_of_gemm_limit']:.0%}",
        f"{peer['share_of_gemm_limit']:.0%}",
        f"{ours[memory]:.0f}",
        f"{peer[memory]:.0f}",
        f"{case['check']['max_loss_difference']:.1e}" if case["check"] else "not checked",
    ]


def as_markdown(result: Job) -> str:
    """Machine, table, and the losses of each case's first round."""
    rows = [table_row(case, result["device"]) for case in result["cases"]]
    losses = []
    for case in result["cases"]:
        title = f"{Path(case['input_jsonl']).name}, batch {case['batch_size']}, {case['precision']}"
        for side in SIDES:
            values = " ".join(f"{loss:.4f}" for loss in case["rounds"][side][0]["losses"])
            losses.append(f"- {title}, {side}: {values}")
    return "\n".join(
        [
            machine_line(result["machine"], result["threads"], result["device"]),
            f"Rounds: {result['rounds']}, interleaved, each library in a process of its own.",
            "",
            plain_table(HEAD, rows),
            "",
            "Loss of each step, warm-up included, first round, with the model's dropout:",
            "",
            *losses,
        ]
    )


def parse_case(text: str) -> Job:
    """``data.jsonl:batch:precision[:max_length[:model]]``."""
    parts = text.split(":")
    if not 3 <= len(parts) <= 5 or not parts[1].isdigit():
        raise argparse.ArgumentTypeError(
            f"{text}: write data.jsonl:batch:precision[:length[:model]]"
        )
    data, batch, precision, length, model = [*parts, "", ""][:5]
    if precision not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text}: precision is one of {', '.join(PRECISIONS)}")
    return {
        "input_jsonl": data,
        "batch_size": int(batch),
        "precision": precision,
        "max_seq_length": int(length) if length else None,
        "base_model": model or MINILM,
    }


PRECISIONS = ("32-true", "bf16-mixed", "best")


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input_jsonl", help="JSONL file with question and answer")
    parser.add_argument("--base_model", default=MINILM, help="folder, hub id, or mpnet-shape")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="best",
        help="of both libraries; best: bf16-mixed if the hardware has it, else 32-true",
    )
    parser.add_argument("--max_seq_length", type=int, help="default: the model's own")
    parser.add_argument(
        "--case",
        action="append",
        type=parse_case,
        metavar="DATA:BATCH:PRECISION[:LENGTH[:MODEL]]",
        help="a row of the table, instead of the flags above; may be repeated",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="measured steps per run")
    parser.add_argument("--warmup_steps", type=int, default=3, help="steps before, not measured")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE")
    args = parser.parse_args()
    if not args.case:
        if not args.input_jsonl:
            parser.error("--input_jsonl or --case is required")
        names = ("input_jsonl", "batch_size", "precision", "max_seq_length", "base_model")
        args.case = [{name: getattr(args, name) for name in names}]
    for name in ("rounds", "steps", "warmup_steps", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def main() -> None:
    """Measures every case and prints the table."""
    if sys.argv[1:2] == ["--worker"]:
        serve(WORKERS, sys.argv[2:])
        return
    args = parse_args()
    checks: dict[str, Job] = {}
    result: Job = {
        "machine": machine(),
        "device": args.device,
        "threads": args.threads,
        "rounds": args.rounds,
        "cases": [run_case(case, args, checks) for case in args.case],
    }
    publish(as_markdown(result), result, args.json, args.markdown)


if __name__ == "__main__":
    main()
