"""Several processes do what one does: the same batches, gradients and metrics."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import programs
import pytest
import torch
from recorder import recorded, run_for_gradients
from safetensors.torch import load_file
from tiny import sample_rows, with_negatives, write_jsonl

pytestmark = pytest.mark.slow


LOSSES = {
    "MultipleNegativesRankingLoss": ["--loss_function=mnrl"],
    "ContrastiveLoss": ["--loss_function=contrastive"],
    "CosineSimilarityLoss": ["--loss_function=cosine"],
    "OnlineContrastiveLoss": ["--loss_function=online_contrastive"],
}
VARIANTS = {
    "plain": [],
    "symmetric": ["--model.loss.symmetric=true"],
    "extra negatives": ["--trainer.callbacks.negatives=3"],
    "hard negatives": ["--input_jsonl={mined}", "--data.hard_negatives=2"],
    "chunked": ["--model.chunk_size=3"],
    "accumulated": ["--trainer.accumulate_grad_batches=2"],
    "sum": ["--model.loss.size_average=false"],
}


def combinations() -> Iterator[tuple[str, str, list[str]]]:
    for loss, flags in LOSSES.items():
        for variant, more in VARIANTS.items():
            if variant == "symmetric" and loss != "MultipleNegativesRankingLoss":
                continue  # the pair losses have no directions
            if variant == "sum" and loss != "ContrastiveLoss":
                continue
            yield loss, variant, [*flags, *more]


def test_gradients_of_two_ranks(
    fit_flags: list[str],
    without_dropout: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All batches of an epoch, also the short last one, compared with one process.

    The learning rate is nearly 0, so that the weights stay the same.
    """
    flags = [
        "fit",
        *fit_flags,
        *without_dropout,
        "--epochs=1",
        "--precision=64-true",
        "--learning_rate=1e-30",
        "--model.weight_decay=0",
        "--trainer.gradient_clip_val=null",
        "--trainer.callbacks+=recorder.Gradients",
        "--overwrite=true",
        f"--output_dir={tmp_path}/out",
    ]
    mined = write_jsonl(tmp_path / "mined.jsonl", with_negatives(sample_rows()[:60]))
    jobs = {
        (loss, variant): [
            *flags,
            *[flag.format(mined=mined) for flag in more],
            f"--trainer.callbacks.path={tmp_path}/{loss}-{variant}",
        ]
        for loss, variant, more in combinations()
    }
    for job in jobs.values():
        run_for_gradients([*job, "--batch_size=10"])
    expected = {name: torch.load(Path(f"{tmp_path}/{'-'.join(name)}")) for name in jobs}
    for name in jobs:
        Path(f"{tmp_path}/{'-'.join(name)}").unlink()  # the ranks write to the same path
    two = [[*job, "--batch_size=5", "--devices=2", "--strategy=ddp"] for job in jobs.values()]
    (tmp_path / "jobs.json").write_text(json.dumps(two))
    programs.torchrun(2, Path(__file__).with_name("ranks.py"), str(tmp_path / "jobs.json"))
    with capsys.disabled():
        print(
            "\n\n| loss | variant | steps | greatest difference of a gradient |\n|---|---|---|---|"
        )
        for name in jobs:
            steps = torch.load(Path(f"{tmp_path}/{'-'.join(name)}"))
            assert len(steps) == len(expected[name]) >= 3
            largest = max(
                (one[key] - other[key]).abs().max().item()
                for one, other in zip(expected[name], steps, strict=True)
                for key in one
            )
            assert max(g.abs().max() for g in steps[0].values()) > 1e-4
            print(f"| {name[0]} | {name[1]} | {len(steps)} | {largest:.1e} |")
            assert largest <= 1e-12, name


def assert_same_run(one: Path, other: Path) -> None:
    """Compares the metrics of the base model, and the last weights within rounding."""
    metrics = [json.loads((out / "metrics.json").read_text()) for out in (one, other)]
    for name, value in metrics[0]["base"].items():
        assert metrics[1]["base"][name] == pytest.approx(value, abs=1e-6), name
    weights = [load_file(out / "final_model" / "model.safetensors") for out in (one, other)]
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=0, atol=2e-3)


def test_two_ranks_are_one_run(
    fit: Callable[..., Path], fit_flags: list[str], telling_model: Path, tmp_path: Path
) -> None:
    """With Lightning's own launcher: the same batches, metrics and, within rounding, weights."""
    record = ["--trainer.callbacks+=recorder.Recorder", "--trainer.callbacks.path={}"]
    record += ["--data.mine_negatives=true", "--model.base_share=0.4"]
    record += ["--data.mine_negatives=true", f"--base_model={telling_model}", "--model.dropout=0"]
    record += ["--learning_rate=1e-4"]  # the tuned model is better, so forgetting is evaluated
    record += [f"--data.guard_jsonl={write_jsonl(tmp_path / 'guard.jsonl', sample_rows()[90:123])}"]
    one = fit(*[flag.format(tmp_path / "one") for flag in record])
    flags = [*fit_flags, f"--output_dir={tmp_path}/two"]
    flags += ["--batch_size=4", "--devices=2", "--strategy=ddp"]
    flags += [flag.format(tmp_path / "two-rows") for flag in record]
    result = programs.run(["fit", *flags])
    assert result.returncode == 0, result.stderr

    whole = recorded(tmp_path / "one")
    ranks = [recorded(tmp_path / "two-rows", rank) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]) == len(whole)
    for expected, first, second in zip(whole, *ranks, strict=True):
        assert sorted(first[2] + second[2]) == sorted(expected[2])
        assert first[:2] == second[:2] == expected[:2]

    assert_same_run(one, tmp_path / "two")
    forgetting = [
        json.loads((o / "metrics.json").read_text())["guard"] for o in (one, tmp_path / "two")
    ]
    assert forgetting[1]["before"] == pytest.approx(forgetting[0]["before"], abs=1e-6)
    assert forgetting[1]["after"] == pytest.approx(forgetting[0]["after"], abs=0.05)
    losses = [
        [
            line["train/loss"]
            for line in map(json.loads, (out / "training_metrics.jsonl").read_text().splitlines())
            if "train/loss" in line
        ]
        for out in (one, tmp_path / "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert result.stdout.count("pairs.jsonl: 60 rows read") == 1
    assert "sync_dist" not in result.stdout + result.stderr
    assert re.search(r"mine_negatives: \d\d+ hard negatives", result.stdout)


NAMESPACES = ("embedft-a", "embedft-b")


@pytest.fixture
def two_hosts() -> Iterator[list[list[str]]]:
    """The start of a command on either of two hosts: network namespaces joined by a cable."""

    def ip(*words: str) -> int:
        return subprocess.run(["ip", *words], capture_output=True).returncode

    if not shutil.which("ip") or ip("netns", "add", NAMESPACES[0]):
        pytest.skip("network namespaces can't be made here (needs iproute2 and root)")
    ip("netns", "add", NAMESPACES[1])
    ip("link", "add", "eft0", "type", "veth", "peer", "name", "eft1")
    for host, name in enumerate(NAMESPACES):
        ip("link", "set", f"eft{host}", "netns", name)
        ip("-n", name, "addr", "add", f"10.77.13.{host + 1}/24", "dev", f"eft{host}")
        ip("-n", name, "link", "set", f"eft{host}", "up")
        ip("-n", name, "link", "set", "lo", "up")
    yield [["ip", "netns", "exec", name] for name in NAMESPACES]
    for name in NAMESPACES:
        ip("netns", "del", name)


def test_two_hosts(
    two_hosts: list[list[str]],
    fit: Callable[..., Path],
    fit_flags: list[str],
    without_dropout: list[str],
    tmp_path: Path,
) -> None:
    """Hosts that share no folder, over gloo, each with one process."""
    one = fit(*without_dropout)
    processes = []
    for rank, host in enumerate(two_hosts):
        environment = os.environ | programs.RANK_VARIABLES
        environment |= {
            "MASTER_ADDR": "10.77.13.1",
            "MASTER_PORT": "29511",
            "NODE_RANK": str(rank),
            "GLOO_SOCKET_IFNAME": f"eft{rank}",
            "XDG_CACHE_HOME": str(tmp_path / f"cache{rank}"),
        }
        flags = [*fit_flags, *without_dropout, f"--output_dir={tmp_path}/host{rank}"]
        flags += ["--batch_size=4", "--devices=1", "--trainer.num_nodes=2", "--strategy=ddp"]
        processes.append(
            subprocess.Popen(
                [*host, sys.executable, "-m", "embedft", "fit", *flags],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert_same_run(one, tmp_path / "host0")
    assert not (tmp_path / "host1" / "final_model").exists()
