"""What the benchmarks share: a fresh process for each measurement, pairs, base models.

Large libraries are imported in functions, so that the parent stays small: the peak memory of a
child starts at the size of its parent.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embedft.table.record import normalize_text

Job = dict[str, Any]
Worker = Callable[[Job], Job]
Pair = tuple[str, str]

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MPNET_SHAPE = "mpnet-shape"
PACKAGES = ("embedft", "sentence-transformers", "torch", "transformers", "lightning", "datasets")


# Processes.


def run_worker(
    script: str, name: str, job: Job, threads: int, env: dict[str, str] | None = None
) -> Job:
    """Runs a worker of a script in a fresh process, and returns its result.

    Args:
        script: The script that defines the worker.
        name: The worker's name.
        job: Its input.
        threads: Number of threads of every library.
        env: More environment variables.

    Raises:
        SystemExit: The worker failed; its last lines are the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_file, result_file = Path(folder) / "job.json", Path(folder) / "result.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, script, "--worker", name, str(job_file), str(result_file)]
        variables = environment(threads) | (env or {})
        if name == "locate":  # the one that may have to download a model
            variables = dict(os.environ)
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-30:])
            raise SystemExit(f"{tail}\nbenchmark: error: worker {name} failed")
        return dict(json.loads(result_file.read_text(encoding="utf-8")))


def environment(threads: int) -> dict[str, str]:
    """Environment of a measured process: threads of every library, no hub, no progress bars."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    return os.environ | quiet | dict.fromkeys(names, str(threads))


def serve(workers: dict[str, Worker], arguments: Sequence[str]) -> None:
    """Runs the worker of ``--worker NAME JOB RESULT``; writes its result and peak memory."""
    name, job_file, result_file = arguments
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    result = workers[name](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_rss_mb"] = peak / (2**20 if sys.platform == "darwin" else 2**10)
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        result["peak_gpu_mb"] = sys.modules["torch"].cuda.max_memory_allocated() / 2**20
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def start_torch(job: Job) -> None:
    """Imports torch and sets its number of threads."""
    import torch

    torch.set_num_threads(job["threads"])


def round_order(number: int, names: Sequence[str]) -> list[str]:
    """The order of a round: every other round is reversed, so that none is always first."""
    return list(names) if number % 2 == 0 else list(reversed(names))


# Results.


def median_ratio(firsts: Iterable[float], seconds: Iterable[float]) -> dict[str, float]:
    """Median, smallest and largest of the ratios of all rounds."""
    ratios = [first / second for first, second in zip(firsts, seconds, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def ratio_text(ratio: dict[str, float]) -> str:
    """``1.85 (1.80..1.91)``."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}..{ratio['max']:.2f})"


def machine() -> dict[str, Any]:
    """Processor and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def machine_line(facts: dict[str, Any], threads: int, device: str) -> str:
    """Processor and versions in one line."""
    versions = ", ".join(f"{package} {facts[package]}" for package in PACKAGES)
    return (
        f"{facts['processor']}, {facts['cores']} cores, {threads} threads, device {device}; "
        f"{versions}"
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def publish(text: str, result: Job, json_file: str | None, markdown_file: str | None) -> None:
    """Prints the Markdown, and writes it and the result to files if their names are given."""
    print(text)
    if markdown_file:
        Path(markdown_file).write_text(text + "\n", encoding="utf-8")
    if json_file:
        Path(json_file).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


# Pairs.


def distinct_pairs(path: str | Path) -> list[Pair]:
    """(question, answer) of each row whose question and answer occur in no earlier row.

    Raises:
        SystemExit: The file can't be read.
    """
    if not Path(path).is_file():
        raise SystemExit(f"benchmark: error: {path}: there is no such file")
    pairs: list[Pair] = []
    questions: set[str] = set()
    answers: set[str] = set()
    with Path(path).open("rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            row = json.loads(line.decode("utf-8-sig"))
            question, answer = row.get("question"), row.get("answer")
            if not (isinstance(question, str) and isinstance(answer, str)):
                continue
            keys = normalize_text(question), normalize_text(answer)
            label = row.get("label", row.get("score"))
            relevant = label is None or float(label) >= 0.5
            if all(keys) and relevant and keys[0] not in questions and keys[1] not in answers:
                questions.add(keys[0])
                answers.add(keys[1])
                pairs.append((question.strip(), answer.strip()))
    return pairs


def sample_pairs(path: str | Path, count: int) -> list[Pair]:
    """A random choice of ``count`` distinct pairs of a file, in file order.

    Raises:
        SystemExit: The file has fewer.
    """
    pairs = distinct_pairs(path)
    if len(pairs) < count:
        raise SystemExit(
            f"benchmark: error: {path} has {len(pairs)} distinct pairs, {count} are needed; "
            "take fewer steps or a smaller batch"
        )
    chosen = random.Random(0).sample(range(len(pairs)), count)
    return [pairs[index] for index in sorted(chosen)]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> Path:
    """Writes pairs as JSONL and returns the path."""
    with path.open("w", encoding="utf-8") as stream:
        for question, answer in pairs:
            row = {"question": question, "answer": answer}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def numbered_pairs(pairs: Sequence[Pair], count: int) -> Iterable[Pair]:
    """Repeats the pairs, each with a running number in both texts, so that all are distinct."""
    for number in range(count):
        question, answer = pairs[number % len(pairs)]
        yield f"{question} {number}", f"{number} {answer}"


# Base models.


def locate_model(job: Job) -> Job:
    """Worker: the folder of a base model, and the best precision of the device.

    ``mpnet-shape`` is made in the job's ``scratch``.
    """
    from embedft.tools.device import has_native_bf16

    if job["base_model"] == MPNET_SHAPE:
        root = _make_mpnet_shape(Path(job["scratch"]) / MPNET_SHAPE)
    else:
        root = model_root(job["base_model"])
    best = "bf16-mixed" if has_native_bf16(job["device"]) else "32-true"
    return {"folder": str(root), "best_precision": best}


def model_root(base_model: str) -> Path:
    """The folder of a base model as sentence-transformers loads it, with pooling and prompts."""
    from embedft.encoder.base_model import find_base_model

    folder = find_base_model(base_model).folder  # the Transformer's, which may lie one below
    return folder.parent if (folder.parent / "modules.json").is_file() else folder


def _make_mpnet_shape(folder: Path) -> Path:
    """A model with the shape and the vocabulary layout of all-mpnet-base-v2, and random weights.

    <s> <pad> </s> <unk>, then MiniLM's 30,522 tokens, then <mask>.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoTokenizer, MPNetConfig, MPNetModel, PreTrainedTokenizerFast

    from embedft.encoder.base_model import find_base_model

    pieces = AutoTokenizer.from_pretrained(find_base_model(MINILM).folder).get_vocab()
    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pieces, key=pieces.__getitem__), "<mask>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        cls_token="<s>",
        pad_token="<pad>",
        sep_token="</s>",
        unk_token="[UNK]",
        mask_token="<mask>",
        model_max_length=512,
    )
    torch.manual_seed(0)
    config = MPNetConfig(vocab_size=len(words), pad_token_id=1, bos_token_id=0, eos_token_id=2)
    MPNetModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(kinds.items())
        ],
        "sentence_bert_config.json": {"max_seq_length": 384, "do_lower_case": False},
        "1_Pooling/config.json": pooling,
        "2_Normalize/config.json": {},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def without_dropout(model: str, folder: Path) -> Path:
    """A copy of a model's folder whose dropout probabilities are 0."""
    shutil.copytree(model, folder)
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        for name, value in config.items():
            if "dropout" in name and isinstance(value, int | float):
                config[name] = 0.0
        path.chmod(0o644)
        path.write_text(json.dumps(config), encoding="utf-8")
    return folder
