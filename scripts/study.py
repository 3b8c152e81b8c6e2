"""Trains recipes on sets with several seeds, evaluates them in and out of domain, prints a table.

    python scripts/study.py --study study.yaml --output_dir study_out

with a YAML file of

    data: ../data                    # folder of the JSONL files
    sets:
      small: {file: a.jsonl, pairs: 1500, guard: b.jsonl}
      others: {file: a.jsonl, split_seed: 7}   # default: 42
      blocks: {file: a.jsonl, block: 20}       # rows without file_name: each 20 rows are a file
      few: {file: a.jsonl, rows: 3000}         # only so many rows, in whole files
      context: {file: a.jsonl, positive: context}    # the context is the answer
    seeds: [1, 2, 3]
    recipes:
      recommended: {}                 # the defaults
      slower: {learning_rate: 2e-5}
      documented: {peer: documented}  # sentence-transformers as its documentation uses it
      expert: {peer: expert}          # batch 64, 1e-4, no duplicates, both directions
      mined: {peer: expert+negatives} # the same with its own mined hard negatives
      slow: {peer: documented, warmup: 500}    # any setting of scripts/peer.py

A recipe is flags of `embedft fit`, or `peer` and its number of warm-up steps. The same split holds
out a tenth of the groups of each set for all recipes; a group is a file, or rows that share a
question or an answer. A recipe gets `pairs` of the other rows, trains on nine tenths of them, and
chooses its best model on the rest. sentence-transformers trains on all of them. Held-out questions
are searched among all distinct answers of the file, before and after training. `guard` is another
set, evaluated in the same way: it shows what the tuned model forgets.
Results are kept in the output folder, with the settings and data that they belong to; the same
command resumes. Seconds are those of embedft's whole process, but only of the training of
sentence-transformers.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedft.encoder.base_model import DEFAULT_BASE_MODEL
from embedft.evaluation.significance import paired_interval
from embedft.table.record import Record
from embedft.tools.files import write_json
from scripts.split_file import split_file

SHARE = 0.9


def training_rows(source: Path, pairs: int | None, seed: int, split_seed: int) -> list[Record]:
    """``pairs`` training rows of a set, chosen by the seed."""
    records, train, _ = split_file(str(source), SHARE, split_seed)
    if pairs is not None and pairs < len(train):
        train = np.sort(np.random.default_rng(seed).permutation(train)[:pairs])
    return [records[row] for row in train]


def prepared(entry: dict[str, Any], folder: Path, target: Path) -> Path:
    """The file of a set, as its ``block``, ``rows`` and ``positive`` change it.

    Args:
        entry: Of the study's ``sets``.
        folder: Of the files.
        target: The file to write if anything changes.
    """
    source = folder / str(entry["file"])
    if not {"block", "rows", "positive"} & entry.keys():
        return source
    rows = [json.loads(line) for line in source.open(encoding="utf-8")]
    for number, row in enumerate(rows):
        if "block" in entry:
            row.setdefault("file_name", f"block-{number // entry['block']}")
        row["answer"] = row[entry.get("positive", "answer")]
    files = sorted({row.get("file_name", row["answer"]) for row in rows})
    order = np.random.default_rng(0).permutation(len(files))
    rank = {files[file]: position for position, file in enumerate(order)}
    rows.sort(key=lambda row: rank[row.get("file_name", row["answer"])])
    target.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows[: entry.get("rows")])
    target.write_text(text, encoding="utf-8")
    return target


def write_rows(rows: list[Record], target: Path) -> Path:
    """Writes records in the input format."""
    keys = ("id", "question", "answer", "context", "file_name", "label", "negatives")
    with target.open("w", encoding="utf-8") as stream:
        for row in rows:
            fields = {key: getattr(row, key) for key in keys if getattr(row, key) is not None}
            stream.write(json.dumps(fields, ensure_ascii=False) + "\n")
    return target


def measure(model: str | Path, data: Path, split_seed: int) -> dict[str, list[float]]:
    """``ndcg``, nDCG@10 of each held-out question by a model, and the questions' ``groups``."""
    from embedft.data.datamodule import EmbeddingDataModule
    from embedft.training.module import EmbeddingModule
    from embedft.training.trainer import EmbedftTrainer

    module = EmbeddingModule(base_model=str(model))
    rows = EmbeddingDataModule(str(data), train_split=SHARE, split_seed=split_seed)
    trainer = EmbedftTrainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    trainer.test(module, datamodule=rows, verbose=False)
    values = {
        "ndcg": module.last_query_results.ndcg.tolist(),
        "groups": rows.task.groups.tolist(),
    }
    del module, trainer
    gc.collect()
    return values


def train(recipe: dict[str, Any], data: Path, seed: int, out: Path) -> Path:
    """Trains with the command line; returns the folder of its best model."""
    command = [sys.executable, "-m", "embedft", "fit", "--input_jsonl", str(data)]
    flags = recipe | {"output_dir": out, "seed": seed, "trainer.enable_progress_bar": "false"}
    command += [f"--{n}={'null' if value is None else value}" for n, value in flags.items()]
    done = subprocess.run([*command, "--overwrite"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return out / "best_model"


def peer(
    recipe: dict[str, Any], rows: list[Record], seed: int, base: Path, out: Path
) -> tuple[Path, int]:
    """Trains an arm of scripts/peer.py, with the settings that the recipe changes."""
    from embedft.tools.device import choose_precision
    from scripts.peer import ARMS, train_peer

    changes = {name: value for name, value in recipe.items() if name != "peer"}
    settings = replace(ARMS[recipe["peer"]], **changes)
    precision = str(choose_precision("auto", "auto"))  # as embedft's
    return train_peer(settings, rows, base, out, precision=precision, seed=seed)


def run(study: dict[str, Any], name: str, recipe: Any, seed: int, out: Path) -> dict[str, Any]:
    """Trains one recipe on one set with one seed, and evaluates it."""
    from scripts.benchmark_common import model_root

    entry = study["sets"][name]
    source = prepared(entry, Path(study["data"]), out / "sets" / f"{name}.jsonl")
    split = entry.get("split_seed", 42)
    rows = training_rows(source, entry.get("pairs"), seed, split)
    folder = out / "runs" / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    data = write_rows(rows, folder / "train.jsonl")
    base = model_root(DEFAULT_BASE_MODEL)
    result: dict[str, Any] = {}
    began = time.perf_counter()
    if "peer" in recipe:
        model, dropped = peer(recipe, rows, seed, base, folder / "peer")
        result["rows_dropped"] = dropped
    else:
        model = train(recipe, data, seed, folder / "embedft")
        config = yaml.safe_load((model.parent / "config.yaml").read_text(encoding="utf-8"))
        base = model_root(config["model"]["base_model"])
    result["seconds"] = time.perf_counter() - began
    guard = Path(study["data"]) / entry["guard"] if "guard" in entry else None
    for key, file in (("", source), ("guard_", guard)):
        if file is not None:
            measured = measure(model, file, split)
            result[f"{key}ndcg"] = measured["ndcg"]
            before = cached(
                out / "results" / "base" / f"{base.name}-{file.name}-{split}.json",
                {"base": str(base), "data": digest(file)},
                lambda file=file: measure(base, file, split),
            )
            result[f"{key}base"] = before["ndcg"]
            result[f"{key}groups"] = measured["groups"]
    return result


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def cached(file: Path, made_of: dict[str, Any], make: Any) -> Any:
    """The value in a JSON file, made and written if the file is missing.

    Raises:
        SystemExit: The file was made of other settings or data.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"made_of": made_of, "value": make()})
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["made_of"] != made_of:
        raise SystemExit(f"{file}: was made with other settings or data; give another --output_dir")
    return content["value"]


def line(name: str, recipe: str, results: list[dict[str, Any]]) -> str:
    """A row of the table: means over seeds, and the gain with its interval by groups."""
    base, tuned = (np.mean([result[key] for result in results], axis=0) for key in ("base", "ndcg"))
    spread = [float(np.mean(result["ndcg"])) for result in results]
    cells = [name, recipe, f"{base.mean():.4f}", f"{tuned.mean():.4f}"]
    cells += [
        f"{min(spread):.4f}..{max(spread):.4f}",
        str(paired_interval(base, tuned, np.array(results[0]["groups"]))),
    ]
    guard = ""
    if "guard_ndcg" in results[0]:
        drops = [np.mean(r["guard_ndcg"]) - np.mean(r["guard_base"]) for r in results]
        guard = f"{np.mean(drops):+.4f}"
    cells += [guard, f"{np.mean([result['seconds'] for result in results]):.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Runs what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--study", required=True, help="YAML file")
    parser.add_argument("--output_dir", default="study_out")
    args = parser.parse_args()
    study = yaml.safe_load(Path(args.study).read_text(encoding="utf-8"))
    out = Path(args.output_dir)
    lines = []
    try:
        data = {
            name: {
                key: digest(Path(study["data"]) / entry[key])
                for key in ("file", "guard")
                if key in entry
            }
            for name, entry in study["sets"].items()
        }
        configs = {
            name: digest(path)
            for name, recipe in study["recipes"].items()
            if (path := Path(recipe.get("config", ""))).is_file()  # otherwise the name of a preset
        }
    except FileNotFoundError as error:
        parser.error(f"{error.filename}: no such file; check {args.study}")
    for name, entry in study["sets"].items():
        for recipe, settings in study["recipes"].items():
            results = []
            for seed in study["seeds"]:
                file = out / "results" / name / recipe / f"{seed}.json"
                made_of = {"set": entry, "recipe": settings, "data": data[name]}
                made_of["config"] = configs.get(recipe)
                results.append(
                    cached(
                        file, made_of, lambda r=settings, s=seed, n=name: run(study, n, r, s, out)
                    )
                )
            lines.append(line(name, recipe, results))
            print(lines[-1], flush=True)
    heads = ["set", "recipe", "base", "nDCG@10", "seeds", "gain", "on the guard", "seconds"]
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
