"""Wrong or hostile input: each case ends with one clear line and its exit status.

One table of data files, configs, checkpoints, model folders, flags and environments.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import programs
import pytest
import tiny
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from tiny import Command, sample_rows

from embedft.cli.main import main

ROWS = [json.dumps(row).encode() for row in sample_rows()[:30]]
GOOD = b"\n".join(ROWS) + b"\n"


class Workspace(NamedTuple):
    """Files that a case may damage.

    Attributes:
        folder: A temporary folder; the run writes to ``out`` in it.
        pairs: The input file, valid at first.
        model: A copy of the tiny model.
        marker: A file that must never appear.
    """

    folder: Path
    pairs: Path
    model: Path
    marker: Path


Prepare = Callable[[Workspace], list[str]]


class Case(NamedTuple):
    """``prepare`` returns more flags; the message may name ``{pairs}``, ``{model}``, ``{folder}``."""

    message: str
    prepare: Prepare
    status: int = 2


# Data files.


def content(data: bytes) -> Prepare:
    def prepare(workspace: Workspace) -> list[str]:
        workspace.pairs.write_bytes(data)
        return []

    return prepare


def with_row(row: bytes) -> Prepare:
    """A valid file with this second row."""
    return content(b"\n".join([ROWS[0], row, *ROWS[1:]]) + b"\n")


def changed(**values: object) -> Prepare:
    return with_row(json.dumps(sample_rows()[40] | values).encode())


def removed(workspace: Workspace) -> list[str]:
    workspace.pairs.unlink()
    return []


def a_pipe(workspace: Workspace) -> list[str]:
    workspace.pairs.unlink()
    os.mkfifo(workspace.pairs)
    return []


def a_folder(workspace: Workspace) -> list[str]:
    workspace.pairs.unlink()
    workspace.pairs.mkdir()
    return []


ONE_FILE = b"\n".join(json.dumps(row | {"file_name": "x"}).encode() for row in sample_rows()[:9])
LATIN = json.dumps(sample_rows()[40] | {"answer": "Zürich"}).encode().replace(b"\\u00fc", b"\xfc")

DATA = {
    "missing file": Case("{pairs}: no such file", removed),
    "folder as file": Case("{pairs}: ", a_folder),
    "a pipe": Case("{pairs}: is a pipe or device, but rows are read again", a_pipe),
    "empty file": Case("{pairs}: no rows: the file is empty", content(b"")),
    "only blank lines": Case("{pairs}: no rows", content(b"\n\n  \n")),
    "not UTF-8": Case("{pairs}:2: row: not UTF-8", with_row(LATIN)),
    "UTF-16": Case("{pairs}: is UTF-16. Convert it: ", content(GOOD.decode().encode("utf-16"))),
    "cut gzip": Case("{pairs}: is a damaged gzip file", content(gzip.compress(GOOD)[:-20])),
    "Parquet": Case("{pairs}: is a Parquet file. Convert it: ", content(b"PAR1" + GOOD)),
    "Excel": Case("{pairs}: is a ZIP archive or an Excel file", content(b"PK\x03\x04" + GOOD)),
    "zeros": Case("{pairs}:1: row: not valid JSON", content(bytes(10_000))),
    "CSV": Case(
        "{pairs}:1: row: not valid JSON, it looks like CSV; give JSONL, a line ",
        content(b"question,answer\nWhy?,Because.\n"),
    ),
    "CSV in quotes": Case(
        "{pairs}:1: row: not valid JSON, it looks like CSV; give JSONL, a line ",
        content(b'"question";"answer"\n"Why?";"Because."\n'),
    ),
    "a JSON array": Case(
        "{pairs}:1: row: not valid JSON, it looks like a JSON array; give JSONL, a line ",
        content(json.dumps([{"question": "Why?", "answer": "So."}], indent=1).encode()),
    ),
    "NaN": Case("{pairs}:2: row: holds NaN", changed(score=float("nan"))),
    "Infinity": Case("{pairs}:2: row: holds Infinity", changed(score=float("inf"))),
    "null answer": Case("{pairs}:2: answer: is null", changed(answer=None)),
    "number as answer": Case("{pairs}:2: answer: is a number", changed(answer=3)),
    "list as question": Case("{pairs}:2: question: is an array", changed(question=["a"])),
    "empty string": Case("{pairs}:2: question: is empty", changed(question="")),
    "only spaces": Case("{pairs}:2: answer: is empty", changed(answer=" \t ")),
    "missing question": Case("{pairs}:2: question: missing", with_row(b'{"answer": "a"}')),
    "duplicate keys": Case(
        "{pairs}:2: answer: occurs more than once",
        with_row(b'{"question": "q", "answer": "a", "answer": "b"}'),
    ),
    "lone surrogate": Case(
        "{pairs}:2: answer: holds half a surrogate", changed(answer="\ud83d broken")
    ),
    "truncated last line": Case("{pairs}:30: row: not valid JSON", content(GOOD[:-30])),
    "array instead of object": Case("{pairs}:2: row: is an array", with_row(b'["q", "a"]')),
    "100,000 brackets": Case("{pairs}:2: row: ", with_row(b"[" * 100_000)),
    "label above 1": Case("{pairs}:2: label: is 2", changed(label=2)),
    "label on some rows": Case("{pairs}:", changed(label=1)),
    "text as label": Case("{pairs}:2: label: ", changed(label="yes")),
    "one row": Case("too few rows to train on and to hold out: 1.", content(ROWS[0])),
    "all rows in one file": Case("all 9 rows share files, questions or answers", content(ONE_FILE)),
    "no contexts": Case(
        "{pairs}:1: context: ",
        lambda workspace: [
            *content(
                b"\n".join(
                    json.dumps({"question": f"q{i}", "answer": f"a{i}"}).encode() for i in range(9)
                )
            )(workspace),
            "--data.positive=context",
        ],
    ),
    "validation file missing": Case(
        "{folder}/none.jsonl: no such file; check --validation_jsonl",
        lambda workspace: [f"--validation_jsonl={workspace.folder}/none.jsonl"],
    ),
    "guard file missing": Case(
        "{folder}/none.jsonl: no such file; check --data.guard_jsonl",
        lambda workspace: [f"--data.guard_jsonl={workspace.folder}/none.jsonl"],
    ),
    "the training file as guard file": Case(
        "--data.guard_jsonl: {pairs} holds the training pairs; give pairs of another",
        lambda workspace: [f"--data.guard_jsonl={workspace.pairs}"],
    ),
    "the training file as validation file": Case(
        "{pairs}: only 0 rows are left to train on",
        lambda workspace: [f"--validation_jsonl={workspace.pairs}"],
    ),
}

# Configs.


def config(text: str, name: str = "config.yaml") -> Prepare:
    def prepare(workspace: Workspace) -> list[str]:
        (workspace.folder / name).write_text(text.replace("MARKER", str(workspace.marker)))
        return [f"--config={workspace.folder}/{name}"]

    return prepare


CONFIGS = {
    "fewer evaluations than epochs": Case(
        "val_check_interval: is 50, more than the ",
        lambda workspace: ["--trainer.val_check_interval=50"],
    ),
    "report below a file": Case(
        "{pairs}: can't be written: ", lambda workspace: [f"--report={workspace.pairs}/report.html"]
    ),
    "missing config": Case("", lambda workspace: [f"--config={workspace.folder}/none.yaml"]),
    "folder as config": Case("", lambda workspace: [f"--config={workspace.folder}"]),
    "broken YAML": Case("", config("model: [1")),
    "YAML that is a text": Case("", config("hello")),
    "unknown key": Case("", config("data:\n  bach_size: 3\n")),
    "text as number": Case("", config("data:\n  batch_size: many\n")),
    "a URL": Case("", lambda workspace: ["--config=http://127.0.0.1:9/config.yaml"]),
    "a command as loss": Case(
        "", config("model:\n  loss:\n    class_path: os.system\n    init_args:\n      command: x\n")
    ),
    "a foreign class as loss": Case("", config("model:\n  loss: collections.OrderedDict\n")),
    "a command as callback": Case(
        "",
        config(
            "trainer:\n  callbacks:\n    - class_path: subprocess.Popen\n"
            "      init_args:\n        args: [touch, MARKER]\n"
        ),
    ),
    "a logger whose package is not installed": Case(
        "Problem with given class_path 'lightning.pytorch.loggers.CometLogger': Requirement 'comet",
        config("trainer:\n  logger:\n    - class_path: CometLogger\n"),
    ),
    "a YAML tag that runs a command": Case(
        "", config('data: !!python/object/apply:os.system ["touch MARKER"]\n')
    ),
    "older JSON with an unknown key": Case(
        "{folder}/config.json: bach_size: unknown key; did you mean",
        config('{"bach_size": 3}', "config.json"),
    ),
    "truncated JSON": Case("{folder}/config.json: not a JSON config", config("{", "config.json")),
}

# Checkpoints.


def checkpoint(write: Callable[[Path, Workspace], object]) -> Prepare:
    def prepare(workspace: Workspace) -> list[str]:
        path = workspace.folder / "x.ckpt"
        write(path, workspace)
        return [f"--ckpt_path={path}"]

    return prepare


def another_architecture(path: Path, workspace: Workspace) -> None:
    from embedft.training.module import EmbeddingModule

    other = tiny.build(workspace.folder / "other", "distilbert")
    state = EmbeddingModule(str(other)).state_dict()
    torch.save(
        {
            "embedft_hyper_parameters": {"base_model": "other"},
            "state_dict": state,
            "global_step": 1,
            "epoch": 0,
        },
        path,
    )


CHECKPOINTS = {
    "missing checkpoint": Case("{folder}/x.ckpt: no such checkpoint", checkpoint(lambda *_: None)),
    "folder as checkpoint": Case(
        "{folder}/x.ckpt: no such checkpoint", checkpoint(lambda path, _: path.mkdir())
    ),
    "no last": Case("{folder}/out/checkpoints/last.ckpt: no such", lambda _: ["--ckpt_path=last"]),
    "no best": Case("{folder}/out/checkpoints/best.ckpt: no such", lambda _: ["--ckpt_path=best"]),
    "empty checkpoint": Case(
        "{folder}/x.ckpt: not a readable checkpoint", checkpoint(lambda path, _: path.touch())
    ),
    "text as checkpoint": Case(
        "{folder}/x.ckpt: not a readable checkpoint",
        checkpoint(lambda path, _: path.write_text("weights")),
    ),
    "another program's": Case(
        "{folder}/x.ckpt: is not a checkpoint of embedft",
        checkpoint(lambda path, _: torch.save({"state_dict": {}}, path)),
    ),
    "a list": Case(
        "{folder}/x.ckpt: is not a checkpoint of embedft",
        checkpoint(lambda path, _: torch.save([1], path)),
    ),
    "a command in a checkpoint": Case(
        "{folder}/x.ckpt: not a readable checkpoint",
        checkpoint(
            lambda path, workspace: torch.save({"state_dict": Command(workspace.marker)}, path)
        ),
    ),
    "a command in a bare pickle": Case(
        "{folder}/x.ckpt: not a readable checkpoint",
        checkpoint(
            lambda path, workspace: (
                path.write_bytes(pickle.dumps(Command(workspace.marker))) and None
            )
        ),
    ),
    "a checkpoint without its parts": Case(
        "{folder}/x.ckpt: is not a checkpoint of embedft",
        checkpoint(lambda path, _: torch.save({"embedft_hyper_parameters": {}}, path)),
    ),
    "another architecture's weights": Case(
        "{folder}/x.ckpt: its weights do not fit base model", checkpoint(another_architecture)
    ),
}

# Model folders.


def model(spoil: Callable[[Workspace], object]) -> Prepare:
    def prepare(workspace: Workspace) -> list[str]:
        spoil(workspace)
        return []

    return prepare


def edit_config(**values: object) -> Prepare:
    def spoil(workspace: Workspace) -> None:
        path = workspace.model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return model(spoil)


def weights_as_pickle(workspace: Workspace) -> None:
    (workspace.model / "model.safetensors").unlink()
    torch.save({"x": Command(workspace.marker)}, workspace.model / "pytorch_model.bin")


def fewer_weights(workspace: Workspace) -> None:
    path = workspace.model / "model.safetensors"
    weights = load_file(path)
    weights.pop("encoder.layer.0.output.dense.weight")
    save_file(weights, path, {"format": "pt"})


def remote_code(workspace: Workspace) -> None:
    (workspace.model / "evil.py").write_text(f"open({str(workspace.marker)!r}, 'w')\n")
    edit_config(
        model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    )(workspace)


def empty(workspace: Workspace) -> None:
    for path in workspace.model.glob("*.*"):
        path.unlink()


def no_tokenizer(workspace: Workspace) -> None:
    for path in workspace.model.glob("*token*"):
        path.unlink()


def truncate(workspace: Workspace) -> None:
    path = workspace.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


MODELS = {
    "model not found": Case("base_model no/such: not found", lambda _: ["--base_model=no/such"]),
    "a model id with ../": Case("base_model ../../etc: ", lambda _: ["--base_model=../../etc"]),
    "an id with ../ inside": Case(
        "base_model org/../../etc: not found", lambda _: ["--base_model=org/../../etc"]
    ),
    "a URL as model": Case(
        "base_model http://127.0.0.1:9/m: not found",
        lambda _: ["--base_model=http://127.0.0.1:9/m"],
    ),
    "empty model name": Case("base_model", lambda _: ["--base_model="]),
    "an empty model folder": Case(
        "base_model {model}: ",
        model(empty),
    ),
    "no safetensors": Case("base_model {model}: ", model(weights_as_pickle)),
    "truncated safetensors": Case("base_model {model}: its weights can't be", model(truncate)),
    "weights are missing": Case("base_model {model}: 1 weights are missing", model(fewer_weights)),
    "wrong shapes": Case("base_model {model}: its weights can't be", edit_config(hidden_size=40)),
    "no tokenizer": Case("base_model {model}: its tokenizer ", model(no_tokenizer)),
    "remote code": Case("base_model {model}: ", model(remote_code)),
    "unknown architecture": Case("base_model {model}: ", edit_config(model_type="nonsense")),
    "broken config.json": Case(
        "base_model {model}: ",
        model(lambda workspace: (workspace.model / "config.json").write_text("{")),
    ),
    "broken modules.json": Case(
        "base_model {model}: ",
        model(lambda workspace: (workspace.model / "modules.json").write_text("{")),
    ),
    "pooling not supported": Case(
        "base_model {model}: ",
        model(
            lambda workspace: (workspace.model / "1_Pooling" / "config.json").write_text(
                json.dumps({"word_embedding_dimension": 32, "pooling_mode": "weightedmean"})
            )
        ),
    ),
    "longer than its positions": Case(
        "max_seq_length: is 1000, but", lambda _: ["--max_seq_length=1000"]
    ),
}

# Flags.


def flags(*more: str) -> Prepare:
    return lambda _: list(more)


FLAGS = {
    "unknown flag": Case("", flags("--bach_size=3")),
    "a flag without value": Case("", flags("--batch_size")),
    "batch of 0": Case("batch_size: is 0", flags("--batch_size=0")),
    "text as number": Case("", flags("--batch_size=many")),
    "negative rate": Case("learning_rate: is -1", flags("--learning_rate=-1")),
    "rate that is no number": Case(
        "model.learning_rate (--learning_rate): is nan", flags("--learning_rate=nan")
    ),
    "negative warm-up": Case("warmup_steps: is -3", flags("--warmup_steps=-3")),
    "split above 1": Case("train_split: is 1.5", flags("--train_split=1.5")),
    "unknown loss": Case("loss_function: there is no hinge", flags("--loss_function=hinge")),
    "negative scale": Case("scale: is -1", flags("--model.loss.scale=-1")),
    "chunk of 0": Case("chunk_size: is 0", flags("--model.chunk_size=0")),
    "save every 0 steps": Case("save_steps: is 0", flags("--save_steps=0")),
    "a step of no batches": Case(
        "accumulate_grad_batches: is 0", flags("--trainer.accumulate_grad_batches=0")
    ),
    "evaluate every 0 epochs": Case(
        "check_val_every_n_epoch: is 0", flags("--trainer.check_val_every_n_epoch=0")
    ),
    "fewer than no workers": Case("num_workers: is -1", flags("--data.num_workers=-1")),
    "a seed below 0": Case("seed: is -1, must lie between 0 and", flags("--seed=-1")),
    "keep 0 checkpoints": Case("save_total_limit: is 0", flags("--save_total_limit=0")),
    "part of the validation": Case(
        "trainer.limit_val_batches: ", flags("--trainer.limit_val_batches=2")
    ),
    "part of the base model's measure": Case(
        "trainer.num_sanity_val_steps: would skip texts", flags("--trainer.num_sanity_val_steps=2")
    ),
    "part of what is predicted": Case(
        "trainer.limit_predict_batches: ", flags("--trainer.limit_predict_batches=1")
    ),
    "a log every 0 steps": Case(
        "trainer.log_every_n_steps: is 0", flags("--trainer.log_every_n_steps=0")
    ),
    "no steps": Case("max_steps: is 0, must be at least 1", flags("--trainer.max_steps=0")),
    "negative decay": Case("weight_decay: is -1", flags("--model.weight_decay=-1")),
    "spawned processes": Case(
        "strategy: spawned or forked processes can't hand their metrics back; use ddp",
        flags("--strategy=ddp_spawn", "--devices=2"),
    ),
    "no epochs": Case("epochs: is 0, must be at least 1", flags("--epochs=0")),
    "endless epochs": Case("epochs: ", flags("--epochs=-1")),
    "unknown accelerator": Case("", flags("--accelerator=abacus")),
    "no such GPU": Case("", flags("--accelerator=gpu", "--devices=64")),
    "unknown precision": Case("", flags("--precision=7-bit")),
    "a prompt that fills max_seq_length": Case(
        "query_prompt: with ",
        flags("--max_seq_length=8", f"--model.query_prompt={'what is it ' * 3}"),
    ),
    "clipped at a negative norm": Case(
        "gradient_clip_val: is -1, must be at least 0", flags("--trainer.gradient_clip_val=-1")
    ),
    "a metric that there is not": Case(
        "trainer.callbacks: EarlyStopping monitors val/ndcg, but there is no such metric; did you "
        "mean val/ndcg@10?",
        flags("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/ndcg"),
    ),
    **{
        f"the callback {name}": Case(
            f"trainer.callbacks: {name} is not supported: ",
            flags(f"--trainer.callbacks+={name}", *more),
        )
        for name, *more in (
            ("BackboneFinetuning",),
            ("BatchSizeFinder",),
            ("GradientAccumulationScheduler", '--trainer.callbacks.scheduling={"0": 2}'),
            ("LearningRateFinder",),
            ("ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured"),
            ("StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1e-3"),
            ("Timer", "--trainer.callbacks.duration=00:01:00:00"),
        )
    },
    "sharded weights": Case(
        "strategy: ModelParallelStrategy is not supported",
        config(
            "trainer:\n  strategy:\n    class_path: lightning.pytorch.strategies.ModelParallelStrategy\n"
        ),
    ),
}

# The environment.


def below_a_file(workspace: Workspace) -> list[str]:
    (workspace.folder / "file").write_text("precious")
    return [f"--output_dir={workspace.folder}/file/out"]


def in_use(workspace: Workspace) -> list[str]:
    (workspace.folder / "out").mkdir()
    lock = FileLock(workspace.folder / "out" / ".lock")
    lock.acquire()
    LOCKS.append(lock)
    return []


LOCKS: list[FileLock] = []


def nan_model(workspace: Workspace) -> list[str]:
    weights = load_file(workspace.model / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][3] = torch.nan
    save_file(weights, workspace.model / "model.safetensors", {"format": "pt"})
    return [f"--base_model={workspace.model}"]


def another_run(workspace: Workspace) -> list[str]:
    out = workspace.folder / "out"
    out.mkdir()
    (out / "metrics.json").touch()
    (out / "training_progress.json").write_text('{"training_completed": true}')
    return []


def own_files(workspace: Workspace) -> list[str]:
    """A folder of the user with a file that a run would replace."""
    (workspace.folder / "out").mkdir()
    (workspace.folder / "out" / "config.yaml").write_text("data: {batch_size: 8}  # by hand")
    return ["--overwrite"]


ENVIRONMENT = {
    "output below a file": Case("{folder}/file/out: can't be written", below_a_file),
    "output is a file": Case(
        "{pairs}: is a file; give a folder as --output_dir",
        lambda workspace: [f"--output_dir={workspace.pairs}"],
    ),
    "two runs into one folder": Case("{folder}/out: another run is writing into it", in_use),
    "a folder with another run": Case("{folder}/out: holds another run", another_run),
    "a folder with files of the user": Case(
        "{folder}/out: has files that no run of embedft wrote, and a run would replace them "
        "(config.yaml); move them,",
        own_files,
    ),
    "weights become NaN": Case(
        "the loss is NaN or infinite at step 3 (epoch 0, batch 2), rows with id: ",
        lambda workspace: [
            "--trainer.callbacks+=recorder.Recorder",
            f"--trainer.callbacks.path={workspace.folder}/r",
            "--trainer.callbacks.kill=nan:3",
        ],
        1,
    ),
    "no memory": Case(
        "out of memory. To train the same batch in less memory, use --model.chunk_size 32",
        lambda workspace: [
            "--trainer.callbacks+=recorder.Recorder",
            f"--trainer.callbacks.path={workspace.folder}/r",
            "--trainer.callbacks.kill=memory:2",
        ],
        1,
    ),
    "a base model whose weights are NaN": Case(
        "evaluation: an embedding is NaN or infinite; the model's weights are broken", nan_model, 1
    ),
    "a rate that explodes": Case(
        "",
        flags("--learning_rate=1e38", "--warmup_steps=0", "--trainer.gradient_clip_val=null"),
        1,
    ),
}

TABLE = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("data", DATA),
        ("config", CONFIGS),
        ("checkpoint", CHECKPOINTS),
        ("model", MODELS),
        ("flags", FLAGS),
        ("environment", ENVIRONMENT),
    )
    for name, case in cases.items()
}


@pytest.fixture
def workspace(tmp_path: Path, tiny_model: Path) -> Workspace:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_bytes(GOOD)
    shutil.copytree(tiny_model, tmp_path / "model")
    return Workspace(tmp_path, pairs, tmp_path / "model", tmp_path / "marker")


def arguments(workspace: Workspace, more: list[str]) -> list[str]:
    return [
        "fit",
        f"--output_dir={workspace.folder}/out",
        f"--input_jsonl={workspace.pairs}",
        f"--base_model={workspace.model}",
        "--epochs=1",
        "--batch_size=4",
        "--accelerator=cpu",
        "--precision=32-true",
        "--trainer.enable_progress_bar=false",
        *more,
    ]


@pytest.mark.parametrize("name", TABLE)
def test_one_clear_line(
    name: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    case = TABLE[name]
    args = arguments(workspace, case.prepare(workspace))
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as error:
            main(args)
    finally:
        while LOCKS:
            LOCKS.pop().release()
    said = capsys.readouterr().err
    message = case.message.format(
        pairs=workspace.pairs, model=workspace.model, folder=workspace.folder
    )
    assert said.startswith(f"embedft: error: {message}")
    others = said.splitlines()[1:]
    assert all(line.startswith(f"{workspace.pairs}:") for line in others), "a line for each bad row"
    assert error.value.code == case.status
    assert not workspace.marker.exists()
    if case.status == 2 and not name.startswith("environment"):
        assert not (workspace.folder / "out").exists(), "wrong input leaves nothing behind"


@pytest.mark.slow
def test_no_space_left(workspace: Workspace) -> None:
    """A file may not grow further, as on a full disk."""
    run = programs.run(arguments(workspace, []), limits={resource.RLIMIT_FSIZE: 150_000})
    assert run.returncode == 1, run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("embedft: error: ")
    assert "can't be written, is there space left?" in run.stderr
    assert not list((workspace.folder / "out").rglob("*.ckpt"))
