"""A run that is killed at any step, even several times, ends with the same bits as one that is not."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import programs
import pytest
import torch
from recorder import recorded
from runs import FinishedRun, finish
from safetensors.torch import load_file, save_file
from tiny import Command, sample_rows, with_negatives, write_jsonl

from embedft.cli.main import main
from embedft.encoder.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

# 50 training rows in batches of 8: 7 batches an epoch, 14 in all.


def recorder_flags(path: Path, **options: object) -> list[str]:
    return [
        "--trainer.callbacks+=recorder.Recorder",
        f"--trainer.callbacks.path={path}",
        *[f"--trainer.callbacks.{name}={value}" for name, value in options.items()],
    ]


def run(flags: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """A fit in its own process."""
    return programs.run(["fit", *flags], variables=variables)


def complete(flags: list[str]) -> None:
    """A fit that nothing stops: in this process, or in one process for each of two ranks."""
    if "--strategy=ddp" in flags:
        result = run(flags)
        assert result.returncode == 0, result.stderr
    else:
        main(["fit", *flags])


class Case(NamedTuple):
    """A row of the matrix: when a run and its resumed runs are killed, and their flags."""

    kills: tuple[str, ...]
    flags: tuple[str, ...] = ()
    signum: int = signal.SIGKILL


ACCUMULATE = "--trainer.accumulate_grad_batches=2"
AVERAGED = (
    "--trainer.callbacks+=EMAWeightAveraging",
    "--trainer.callbacks.decay=0.9",
    "--trainer.callbacks+=EarlyStopping",
    "--trainer.callbacks.monitor=val/ndcg@10",
    "--trainer.callbacks.mode=max",
)
MINED = "--input_jsonl={mined}"
MINING = ("--data.mine_negatives=true", "--base_model={telling}")
TWO_RANKS = ("--batch_size=4", "--devices=2", "--strategy=ddp")

CASES = {
    "within an epoch": Case(("batch:4",)),
    "on an epoch's last batch": Case(("batch:7",)),
    "on the next epoch's first batch": Case(("batch:8",)),
    "on the run's last batch": Case(("batch:14",)),
    "within a window of accumulation": Case(("batch:10",), (ACCUMULATE, "--save_steps=1")),
    "evaluation within a window": Case(("batch:5",), (ACCUMULATE, "--evaluation_steps=3")),
    "during an evaluation": Case(("validation:1",)),
    "during the second evaluation": Case(("validation:2",)),
    "evaluation and checkpoint at one step": Case(("batch:4",), ("--evaluation_steps=3",)),
    "during an evaluation at a checkpoint's step": Case(
        ("validation:2",), ("--evaluation_steps=3",)
    ),
    "while a checkpoint is written": Case(("saving:3",)),
    "while the best is written": Case(("saving:4",)),
    "twice": Case(("batch:5", "batch:4")),
    "three times": Case(("batch:4", "validation:1", "saving:1")),
    "two loader workers": Case(("batch:5",), ("--data.num_workers=2",)),
    "drawn negatives": Case(("batch:5",), ("--loss_function=contrastive",)),
    "hard negatives": Case(
        ("batch:5", "batch:4"), (MINED, "--data.hard_negatives=2", "--model.chunk_size=9")
    ),
    "hard negatives, two ranks": Case(("batch:9",), (MINED, *TWO_RANKS)),
    "adapters, averaged weights, early stopping": Case(
        ("batch:5", "validation:1", "batch:2"),  # the last at an epoch's end
        (*AVERAGED, "--model.lora.r=4", "--model.lora.lora_dropout=0.1"),
    ),
    "weights in float64": Case(("batch:5",), ("--precision=64-true",)),
    "clipped by value": Case(("batch:5",), ("--trainer.gradient_clip_algorithm=value",)),
    "in chunks": Case(("batch:5",), ("--model.chunk_size=3",)),
    "mined negatives, mixed with the base": Case(
        ("batch:9", "batch:3"), ("--model.base_share=0.4", *MINING)
    ),
    "two ranks, within an epoch and during an evaluation": Case(
        ("batch:4", "validation:1"), TWO_RANKS
    ),
    "SIGTERM within an epoch": Case(("batch:4",), signum=signal.SIGTERM),
    "SIGINT within an epoch": Case(("batch:4",), signum=signal.SIGINT),
    "SIGTERM within a window": Case(("batch:5",), (ACCUMULATE,), signal.SIGTERM),
    "SIGTERM during an evaluation": Case(("validation:1",), signum=signal.SIGTERM),
    "SIGTERM before an evaluation": Case(("batch:7",), signum=signal.SIGTERM),
    "SIGTERM, two ranks, within the next epoch": Case(("batch:9",), TWO_RANKS, signal.SIGTERM),
}


@pytest.fixture(scope="module")
def wholes() -> dict[tuple[str, ...], tuple[Path, list[Any]]]:
    """Uninterrupted runs by their flags."""
    return {}


@pytest.mark.parametrize("name", CASES)
def test_resume_matrix(
    name: str,
    fit_flags: list[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    wholes: dict[tuple[str, ...], tuple[Path, list[Any]]],
    telling_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kills, more, signum = CASES[name]
    mined = write_jsonl(tmp_path / "mined.jsonl", with_negatives(sample_rows()[:60]))
    files = {"mined": mined, "telling": telling_model}
    flags = [*fit_flags, "--save_steps=3", *[flag.format(**files) for flag in more]]
    if more not in wholes:
        folder = tmp_path_factory.mktemp("whole")
        complete([*flags, f"--output_dir={folder}/out", *recorder_flags(folder / "batches")])
        wholes[more] = folder / "out", recorded(folder / "batches")
    whole, everything = wholes[more]
    assert len(everything) == 14

    out = tmp_path / "out"
    status = -signum if signum == signal.SIGKILL else 128 + signum
    resume: list[str] = []
    done = 0
    for number, kill in enumerate(kills):
        note = tmp_path / f"killed{number}"
        options = {"kill": kill, "with_signal": int(signum)}
        result = run(
            [*flags, f"--output_dir={out}", *resume, *recorder_flags(note, **options)],
            TMPDIR="/dev/shm",  # another file system than the checkpoints'
        )
        assert result.returncode == status, result.stderr
        assert recorded(note) == everything[done : done + len(recorded(note))]
        progress = json.loads((out / "training_progress.json").read_text())
        assert progress["training_completed"] is False
        resume = ["--ckpt_path=last"]
        done = position(out)
        if signum != signal.SIGKILL:
            assert "--ckpt_path last" in result.stderr
            assert done == len(recorded(note)), "saved where it stopped"
    complete(
        [*flags, f"--output_dir={out}", "--ckpt_path=last", *recorder_flags(tmp_path / "rest")]
    )
    rest = recorded(tmp_path / "rest") if (tmp_path / "rest.0").exists() else []
    assert rest == everything[done:]
    same(out, whole)
    log = (out / "logs" / "embedding_finetuning.log").read_text(encoding="utf-8")
    assert "not the run that was stopped" not in log
    with capsys.disabled():
        print(f"\nresume: {name}: from batch {done} of 14, bit-identical", end=" ")


def position(out: Path) -> int:
    """Number of batches trained on before the newest checkpoint."""
    state = read_checkpoint(out / "checkpoints" / "last.ckpt")["EmbeddingDataModule"]
    return 7 * int(state["epoch"]) + int(state["batch"])


def same(one: Path, other: Path) -> None:
    """Compares weights, optimiser, schedule, metrics and their file; not times and speeds."""
    for name in ("final_model", "best_model"):
        assert_equal(*(load_file(folder / name / "model.safetensors") for folder in (one, other)))
    last = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (one, other)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step"):
        assert_equal(last[0][part], last[1][part])
    for name in ("EmbeddingDataModule", "embedft_run_settings"):
        plain = [
            {
                key: value.tolist() if isinstance(value, torch.Tensor) else value
                for key, value in checkpoint[name].items()
                if key not in {"files", "callbacks"}  # paths: each test has its own folder
            }
            for checkpoint in last
        ]
        assert plain[0] == plain[1]
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    assert metrics[0] == metrics[1]
    assert lines_of(one) == lines_of(other)
    assert not list(one.rglob("*writing*"))


def lines_of(out: Path) -> list[dict[str, Any]]:
    """The lines of the metrics file, without times and speeds."""
    lines = [json.loads(line) for line in (out / "training_metrics.jsonl").read_text().splitlines()]
    return [
        {
            name: value
            for name, value in line.items()
            if name != "timestamp" and not name.endswith("_per_second")
        }
        for line in lines
    ]


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_equal(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    else:
        assert one == other or (one != one and other != other)


def test_killed_before_the_first_checkpoint(fit_flags: list[str], tmp_path: Path) -> None:
    """Resume reports that there is no checkpoint; a new run ends as an uninterrupted one."""
    flags = [*fit_flags, f"--output_dir={tmp_path}/out"]
    killed = run([*flags, *recorder_flags(tmp_path / "killed", kill="batch:2")])
    assert killed.returncode == -9
    resumed = run([*flags, "--ckpt_path=last"])
    assert resumed.returncode == 2
    assert "last.ckpt: no such checkpoint" in resumed.stderr
    refused = run(flags)
    assert refused.returncode == 2
    assert "holds another run" in refused.stderr
    complete([*flags, "--overwrite"])
    complete([*fit_flags, f"--output_dir={tmp_path}/whole"])
    same(tmp_path / "out", tmp_path / "whole")


def test_a_full_disk_leaves_the_earlier_checkpoint(fit_flags: list[str], tmp_path: Path) -> None:
    """The run stops at the save that fails. Resumed with space, it ends as an uninterrupted one."""
    flags = [*fit_flags, "--save_steps=3", f"--output_dir={tmp_path}/out"]
    full = run([*flags, *recorder_flags(tmp_path / "full", kill="full:4")])
    assert full.returncode == 1, full.stderr
    assert full.stderr.count("\n") == 1
    assert "last.ckpt: can't be written, is there space left?" in full.stderr
    assert len(recorded(tmp_path / "full")) == 6
    assert position(tmp_path / "out") == 3
    complete([*flags, "--ckpt_path=last"])
    complete([*fit_flags, "--save_steps=3", f"--output_dir={tmp_path}/whole"])
    same(tmp_path / "out", tmp_path / "whole")


def test_a_dead_rank_ends_the_job(fit_flags: list[str], tmp_path: Path) -> None:
    """Within a minute, as docs/reliability.md says."""
    flags = [*fit_flags, *TWO_RANKS, f"--output_dir={tmp_path}/out", "--epochs=500"]
    started = time.monotonic()
    result = run([*flags, *recorder_flags(tmp_path / "dead", kill="batch:5", rank=1)])
    assert result.returncode != 0
    assert len(recorded(tmp_path / "dead", 1)) == 5
    seen = recorded(tmp_path / "dead")
    assert len(seen) <= 6
    last = (tmp_path / "dead.0").stat().st_mtime
    assert time.time() - last < 60
    assert time.monotonic() - started < 120


def test_slurm_requeues(fit_flags: list[str], tmp_path: Path) -> None:
    """SIGUSR1 saves at the end of a step and calls scontrol; the requeued job resumes by itself."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nkill -9 $PPID\n')
    scontrol.chmod(0o755)
    slurm = {
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }
    guard = write_jsonl(tmp_path / "guard.jsonl", sample_rows()[90:123])
    fit_flags = [*fit_flags, "--model.base_share=0.4", f"--data.guard_jsonl={guard}"]
    flags = [*fit_flags, f"--output_dir={tmp_path}/out"]
    options = {"kill": "batch:4", "with_signal": int(signal.SIGUSR1)}
    first = run([*flags, *recorder_flags(tmp_path / "first", **options)], **slurm)
    assert first.returncode == -9, first.stderr
    assert (tmp_path / "asked").read_text().split() == ["requeue", "17"]
    fresh = run([*flags, "--trainer.max_steps=9"], **slurm)
    assert "holds another run" in fresh.stderr  # another job, not the requeued one
    slurm["SLURM_RESTART_COUNT"] = "1"
    again = run([*flags, *recorder_flags(tmp_path / "again")], **slurm)
    assert again.returncode == 0, again.stderr
    assert len(recorded(tmp_path / "first")) == 4
    assert len(recorded(tmp_path / "again")) == 10
    assert list((tmp_path / "out").glob("hpc_ckpt_*")) == []  # a later job is not a requeued one
    complete([*fit_flags, f"--output_dir={tmp_path}/whole"])
    same(tmp_path / "out", tmp_path / "whole")


def test_a_run_stopped_within_an_epoch_is_resumed(fit: Callable[..., Path], tmp_path: Path) -> None:
    whole = fit(*recorder_flags(tmp_path / "whole"), output_dir=tmp_path / "a")
    warmup = "--warmup_steps=0"
    folder = fit("--trainer.max_steps=5", warmup)
    assert json.loads((folder / "metrics.json").read_text())["last"]["step"] == 5
    assert "tuned - base" in (folder / "best_model" / "README.md").read_text()
    fit("--ckpt_path=last", warmup, *recorder_flags(tmp_path / "rest"))
    assert recorded(tmp_path / "rest") == recorded(tmp_path / "whole")[5:]
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (whole, folder)]
    assert metrics[1]["base"] == metrics[0]["base"]
    assert metrics[1]["best"]["ndcg@10"] >= metrics[1]["last"]["ndcg@10"]


def test_the_best_checkpoint_can_be_resumed(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit(*recorder_flags(tmp_path / "whole"))
    step = json.loads((folder / "metrics.json").read_text())["best"]["step"]
    best = folder / "checkpoints" / "best.ckpt"
    fit(f"--ckpt_path={best}", *recorder_flags(tmp_path / "rest"), output_dir=tmp_path / "b")
    rest = recorded(tmp_path / "rest") if (tmp_path / "rest.0").exists() else []
    assert rest == recorded(tmp_path / "whole")[step:]


def test_a_finished_run_can_be_made_longer(
    fit: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fit(*recorder_flags(tmp_path / "first"))
    assert "resume:" not in capsys.readouterr().out
    fit("--ckpt_path=last", "--epochs=3", *recorder_flags(tmp_path / "more"))
    assert [entry[:2] for entry in recorded(tmp_path / "more")] == [[2, i] for i in range(7)]
    assert json.loads((folder / "metrics.json").read_text())["last"]["step"] == 21
    rates = [line["train/learning_rate"] for line in lines_of(folder) if line["step"] == 15]
    assert rates[0] == pytest.approx(
        1e-3 * (21 - 14) / (21 - 2)
    )  # not the zero at which the first run ended
    said = capsys.readouterr().out
    assert (
        "\nwarning: resume: settings differ from the interrupted run; the new values are used: "
        in said
    )
    assert "the new values are used: max_epochs (was 2, is 3); callbacks (was [" in said


@pytest.mark.parametrize(
    "uneven", [["--evaluation_steps=5"], ["--trainer.check_val_every_n_epoch=2", "--epochs=3"]]
)
def test_the_base_model_is_measured_once(
    fit: Callable[..., Path], uneven: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning would measure again as base model when the last epoch of a run is complete."""
    folder = fit(*uneven)
    base = json.loads((folder / "metrics.json").read_text())["base"]
    assert base["step"] == 0
    for more in ([], ["--epochs=4"]):
        fit(*uneven, "--ckpt_path=last", *more)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["base"] == base
    assert metrics["last"]["step"] == 28
    capsys.readouterr()
    progress = (folder / "training_progress.json").read_text()
    with pytest.raises(SystemExit):
        fit("--ckpt_path=last", "--epochs=1")
    assert "epochs: is 1, but the run has done" in capsys.readouterr().err
    assert (folder / "training_progress.json").read_text() == progress


def test_new_settings_are_used(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint never overrides the command line; the log names what changed."""
    fit("--trainer.max_steps=4", "--model.weight_decay=0.1")
    now = [
        "--learning_rate=5e-4",
        "--model.weight_decay=0",
        "--model.loss.scale=10",
        "--trainer.gradient_clip_algorithm=value",
        "--evaluation_steps=6",
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
    ]
    folder = fit("--ckpt_path=last", *now)
    said = capsys.readouterr().out
    assert "learning_rate (was 0.001, is 0.0005)" in said
    assert "weight_decay (was 0.1, is 0.0)" in said
    assert "gradient_clip_algorithm (was norm, is value)" in said
    assert "val_check_interval (was 1.0, is 6)" in said
    assert "callbacks (was [], is [\"EarlyStopping {'monitor': 'val/loss'" in said
    assert "(was MultipleNegativesRankingLoss {'scale': 20.0, " in said
    assert "is MultipleNegativesRankingLoss {'scale': 10" in said
    rates = {
        line["step"]: line["train/learning_rate"]
        for line in lines_of(folder)
        if "train/learning_rate" in line
    }
    assert rates[4] < 1e-3
    assert rates[5] == pytest.approx(5e-4 * (14 - 4) / (14 - 1))
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    groups = last["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0, 0]


def test_resume_of_a_finished_run_trains_nothing(fit: Callable[..., Path], tmp_path: Path) -> None:
    folder = fit()
    before = load_file(folder / "final_model" / "model.safetensors")
    fit("--ckpt_path=last", *recorder_flags(tmp_path / "none"))
    assert not (tmp_path / "none.0").exists()
    after = load_file(folder / "final_model" / "model.safetensors")
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


@pytest.fixture(scope="module")
def stopped_run(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Callable[..., FinishedRun]:
    """Short fits with these flags, each made once: tests only read them."""

    @cache
    def run(*flags: str) -> FinishedRun:
        return finish(tmp_path_factory.mktemp("stopped"), tiny_model, pytestconfig, *flags)

    return run


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--batch_size=4",
            "cannot resume inside an epoch: batch_size was 8, is 4, so its batches would change",
        ),
        ("--seed=7", "cannot resume inside an epoch: seed was 42, is 7, so its batches"),
        (
            "--model.freeze_layers=0",
            "cannot resume: freeze_layers was None and is now 0, so the optimiser",
        ),
    ],
)
def test_other_batches_are_not_resumed(
    fit: Callable[..., Path],
    stopped_run: Callable[..., FinishedRun],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    message: str,
) -> None:
    folder = stopped_run("--trainer.max_steps=4").folder
    with pytest.raises(SystemExit) as error:
        fit(f"--ckpt_path={folder}/checkpoints/last.ckpt", flag, output_dir=tmp_path / "n")
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def other_file(pairs: Path) -> list[str]:
    """The same number of rows in a file with another name."""
    other = write_jsonl(pairs.with_name("other.jsonl"), sample_rows()[60:120])
    return [f"--input_jsonl={other}"]


def more_rows(pairs: Path) -> list[str]:
    write_jsonl(pairs, sample_rows()[:70])
    return []


def own_set(pairs: Path) -> list[str]:
    return [f"--validation_jsonl={write_jsonl(pairs.with_name('own.jsonl'), sample_rows()[90:])}"]


@pytest.mark.parametrize("steps", [4, 7, 14])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_file,
            "other.jsonl: its rows are not those of {pairs}, which the run was made with, so",
        ),
        (more_rows, "{pairs}: its rows have changed since the run, so metrics"),
        (own_set, "validation_jsonl: was left out, is "),
        (
            lambda _: ["--max_seq_length=20"],
            "{pairs}: its texts are now tokenised differently (max_",
        ),
        (lambda _: ["--data.split_seed=7"], "split_seed: was 42, is 7, so metrics"),
        (lambda _: ["--train_split=0.7"], "train_split: was 0.8, is 0.7, so metrics"),
    ],
)
def test_a_run_of_other_rows_is_not_resumed(
    fit: Callable[..., Path],
    stopped_run: Callable[..., FinishedRun],
    capsys: pytest.CaptureFixture[str],
    steps: int,
    change: Callable[[Path], list[str]],
    message: str,
) -> None:
    """Within an epoch, at its end, and with no step left; nothing is written."""
    folder, pairs, _ = stopped_run(f"--trainer.max_steps={steps}")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    rows = pairs.read_bytes()
    with pytest.raises(SystemExit) as error:
        fit("--ckpt_path=last", f"--input_jsonl={pairs}", *change(pairs), output_dir=folder)
    pairs.write_bytes(rows)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert message.format(pairs=pairs) in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_validation_file_must_stay(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_set(pairs)
    fit("--trainer.max_steps=8", *own)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        fit("--ckpt_path=last")
    path = own[0].partition("=")[2]
    assert f"validation_jsonl: was {path}, is left out, so metrics" in capsys.readouterr().err
    fit("--ckpt_path=last", "--train_split=0.5", *own)  # not used with a validation file


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "flipped", "removed", "nan", "other", "command"]
)
def test_an_earlier_checkpoint_replaces_a_damaged_last(
    fit: Callable[..., Path],
    stopped_run: Callable[..., FinishedRun],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    save = ("--save_steps=2", "--trainer.max_steps=6")
    whole = tmp_path_factory.getbasetemp() / "batches-of-6-steps"
    folder = shutil.copytree(stopped_run(*save, *recorder_flags(whole)).folder, tmp_path / "out")
    last = folder / "checkpoints" / "last.ckpt"
    (folder / "checkpoints" / "best.ckpt").unlink()
    content = bytearray(last.read_bytes())
    match damage:
        case "truncated":
            last.write_bytes(content[: len(content) // 2])
        case "empty":
            last.write_bytes(b"")
        case "flipped":
            content[len(content) // 2] ^= 1
            last.write_bytes(content)
        case "removed":
            last.unlink()
        case "nan":
            checkpoint = torch.load(last, weights_only=True)
            next(iter(checkpoint["state_dict"].values())).fill_(torch.nan)
            torch.save(checkpoint, last)
        case "other":
            torch.save({"state_dict": {}}, last)
        case "command":
            last.write_bytes(pickle.dumps(Command(tmp_path / "marker")))
    fit(*save, "--ckpt_path=last", *recorder_flags(tmp_path / "rest"))
    said = capsys.readouterr().out
    assert f"{last}: " in said
    assert "; resuming from " in said
    assert "step-4.ckpt, step 4" in said
    assert recorded(tmp_path / "rest") == recorded(whole)[4:]
    assert not (tmp_path / "marker").exists()


def test_no_good_checkpoint(fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit("--trainer.max_steps=2")
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(SystemExit) as error:
        fit("--ckpt_path=last")
    assert error.value.code == 2
    assert "there is no good checkpoint to resume from" in capsys.readouterr().err


def other_base(folder: Path) -> None:
    """Retrains the base model in its folder: other values of the same weights."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["embeddings.word_embeddings.weight"] += 0.1
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize("when", ["before", "while"])
def test_another_base_model(
    when: str,
    fit: Callable[..., Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its weights are replaced between stop and resume, or while the run trains."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    flags = [f"--base_model={base}", "--model.base_share=0.4"]
    if when == "while":
        monkeypatch.setattr("embedft.run.finish._save_last", lambda run: other_base(base))
    else:
        fit(*flags, "--trainer.max_steps=5")
        other_base(base)
    with pytest.raises(SystemExit) as error:
        fit(*flags, *(["--ckpt_path=last"] if when == "before" else []))
    said = capsys.readouterr().err
    if when == "before":
        assert error.value.code == 2
        assert "cannot resume: the weights of the base model are not those that the run" in said
    else:
        assert error.value.code == 1
        assert f"base_model {base}: its weights were changed or removed while the run trai" in said
    moved = shutil.copytree(tiny_model, tmp_path / "moved")  # the same weights elsewhere
    fit(*flags[1:], f"--base_model={moved}", "--ckpt_path=last")


def test_back_to_an_earlier_checkpoint(fit: Callable[..., Path]) -> None:
    """``best_model`` has the weights of the evaluation that is called the best."""
    often = ["--save_steps=3", "--evaluation_steps=3", "--save_total_limit=9"]
    folder = fit(*often, "--epochs=1")
    checkpoints = folder / "checkpoints"
    best = read_checkpoint(checkpoints / "best.ckpt")
    assert best["global_step"] > 3
    fit(
        *often,
        f"--ckpt_path={checkpoints}/step-3.ckpt",
        "--epochs=1",
        "--learning_rate=0.5",
        "--warmup_steps=0",
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    best = read_checkpoint(checkpoints / "best.ckpt")
    assert best["global_step"] == metrics["best"]["step"]
    assert best["callbacks"]["RunFiles"]["evaluations"]["best"] == metrics["best"]


def test_a_missing_last_is_an_error(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        fit("--ckpt_path=last")
    assert error.value.code == 2
    assert "checkpoints/last.ckpt: no such checkpoint" in capsys.readouterr().err
