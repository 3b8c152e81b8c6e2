"""What is read from disk is not believed: seeded damage ends with 0, or with one line and 1 or 2."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from runs import FinishedRun
from tiny import sample_rows, write_jsonl

from embedft.cli.main import main
from embedft.cli.presets import refuse_odd_config
from embedft.encoder.checkpoint import read_checkpoint
from embedft.encoder.encoder import Encoder
from embedft.errors import InputError
from embedft.table.settings import ReadSettings
from embedft.table.table import read_table
from embedft.training.optimizer_state import refuse_bad_state

VALUES: tuple[Any, ...] = (
    *(None, "x\x1b[2J\nembedft: done", -1, 10**30, 1.5, [], [1, 2], {}, {"a": 1}, True),
    *(torch.zeros(1), torch.zeros(3, 3, dtype=torch.int64), torch.zeros(1).expand(10**12)),
)

Parts = tuple[Any, ...]


def ending(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints to standard error; anything but 0 is one line without escapes."""
    capsys.readouterr()
    status: Any = 0
    try:
        main(args)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status in (0, 1, 2)
    assert not status or (said.startswith("embedft: error: ") and said.count("\n") == 1), said
    assert "\x1b" not in said
    return said


def places(value: Any, path: Parts = ()) -> Iterator[Parts]:
    """The paths to all parts of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for key, part in list(items):
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def changed(value: Any, path: Parts, new: Any) -> Any:
    value = copy.deepcopy(value)
    part = value
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = new
    return value


@pytest.fixture
def checkpoint(finished_run: FinishedRun) -> dict[str, Any]:
    return read_checkpoint(finished_run.folder / "checkpoints" / "last.ckpt")


def optimizer(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def spoil(checkpoint: dict[str, Any]) -> None:
        checkpoint["optimizer_states"][0]["state"][0][name] = value

    return spoil


def setting(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda checkpoint: checkpoint["embedft_hyper_parameters"].update({name: value})


def evaluation(checkpoint: dict[str, Any]) -> None:
    checkpoint["callbacks"]["RunFiles"]["evaluations"]["best"]["ndcg@10"] = "x\x1b[2J"


CHECKPOINTS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a moment of another shape": ("a exp_avg of shape", optimizer("exp_avg", torch.zeros(1))),
    "a moment of whole numbers": (
        "exp_avg_sq that is not",
        optimizer("exp_avg_sq", torch.zeros(1, dtype=torch.int64)),
    ),
    "a moment that is missing": (
        "is not AdamW",
        lambda c: c["optimizer_states"][0]["state"][0].pop("exp_avg"),
    ),
    "a text as step": ("a step that is not a count", optimizer("step", "x")),
    "no optimiser": ("no optimizer_states", lambda c: c.pop("optimizer_states")),
    "a list as weights": ("state_dict is not weights", lambda c: c.update(state_dict=[1])),
    "a text as epoch": ("epoch is not a count", lambda c: c.update(epoch="x")),
    "a text in an evaluation": ("evaluations.best is not an evaluation", evaluation),
    "a list as prompt": ("query_prompt is not a text", setting("query_prompt", [1])),
    "no such version": ("is not a version", lambda c: c.update({"pytorch-lightning_version": "x"})),
    "a later epoch": ("of a later epoch", lambda c: c["EmbeddingDataModule"].update(epoch=9)),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(
    name: str,
    checkpoint: dict[str, Any],
    finished_run: FinishedRun,
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message, spoil = CHECKPOINTS[name]
    spoiled = copy.deepcopy(checkpoint)
    spoil(spoiled)
    torch.save(spoiled, tmp_path / "x.ckpt")
    flags = [f"--input_jsonl={finished_run.pairs}", f"--base_model={tiny_model}", "--epochs=2"]
    flags += ["--batch_size=8", "--train_split=0.8", "--precision=32-true", "--accelerator=cpu"]
    flags += [f"--output_dir={tmp_path}/out", f"--ckpt_path={tmp_path}/x.ckpt"]
    assert message in ending(["fit", *flags], capsys)
    assert not (tmp_path / "out").exists()


def test_seeded_checkpoints(checkpoint: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    """A part of another kind is refused in one message, or it is one that is not used."""
    random.seed(1)
    encoder, trainer = Encoder(str(tiny_model)), Trainer(logger=False, accelerator="cpu")
    everywhere = [path for path in places(checkpoint) if path[0] != "state_dict"]
    refused = 0
    for path in random.sample(everywhere, 60):
        torch.save(changed(checkpoint, path, random.choice(VALUES)), tmp_path / "x.ckpt")
        try:
            refuse_bad_state(read_checkpoint(tmp_path / "x.ckpt"), trainer, encoder)
        except InputError:
            refused += 1
    assert refused > 20


def test_an_adapter_of_any_rank_is_not_made(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="lora: r"):
        Encoder(str(tiny_model), lora={"r": 10**8})


MODEL_FILES = {
    "modules.json": (
        "[" * 100_000,
        "{}",
        "[1]",
        '[{"type": null, "path": ""}]',
        '[{"type": "a.Transformer", "path": "../x"}]',
    ),
    "config.json": ("{", '{"a":' * 100_000, "[]"),
    "sentence_bert_config.json": ('{"max_seq_length": -1}', '{"max_seq_length": 1.5}', "[]"),
    "config_sentence_transformers.json": ('{"prompts": ["x"]}', '{"default_prompt_name": 3}'),
    "1_Pooling/config.json": ('{"pooling_mode": [{}]}', "[]"),
    "tokenizer.json": ("{}", "[" * 100_000),
}


@pytest.mark.parametrize("name", MODEL_FILES)
def test_model_folders(name: str, tiny_model: Path, tmp_path: Path) -> None:
    for content in MODEL_FILES[name]:
        folder = Path(shutil.copytree(tiny_model, tmp_path / "m", dirs_exist_ok=True))
        (folder / name).write_text(content)
        with pytest.raises(InputError, match="^base_model "):
            Encoder(str(folder))


def test_seeded_model_folders(tiny_model: Path, tmp_path: Path) -> None:
    random.seed(2)
    ids, lengths = torch.tensor([2, 3]), torch.tensor([2])
    refused = 0
    for name in random.choices(["config.json", "tokenizer.json", "modules.json"], k=40):
        folder = Path(shutil.copytree(tiny_model, tmp_path / "m", dirs_exist_ok=True))
        content = json.loads((folder / name).read_text())
        path = random.choice([path for path in places(content) if "vocab" not in path])
        new = random.choice([*VALUES[:10], 10**12, 0, 999_999])
        (folder / name).write_text(json.dumps(changed(content, path, new)))
        try:
            Encoder(str(folder))(ids, lengths)
        except InputError as error:
            assert len(error.lines) == 1
            refused += 1
    assert refused > 8


def test_seeded_caches(read_settings: ReadSettings, tmp_path: Path) -> None:
    """A damaged cache is not there: the table is made again, and is the same."""
    random.seed(3)
    path, cache = str(write_jsonl(tmp_path / "p.jsonl", sample_rows()[:20])), tmp_path / "cache"
    whole = read_table(path, read_settings, cache)
    ids, offsets = (
        whole.tokens.ids[whole.tokens.offsets[:-1]].tolist(),
        whole.tokens.offsets.tolist(),
    )
    (folder,) = (entry for entry in cache.iterdir() if entry.is_dir())
    for file in [*sorted(folder.iterdir()), folder / "table.json", folder / "ids.bin"]:
        content = bytearray(file.read_bytes())
        kind = random.choice(["flip", "zeros", "cut"])
        if kind == "flip":
            content[random.randrange(len(content))] ^= 1 + random.randrange(255)
        file.write_bytes(
            bytes(len(content)) if kind == "zeros" else content[: None if kind == "flip" else -1]
        )
        table = read_table(path, read_settings, cache)
        assert table.tokens.offsets.tolist() == offsets
        assert table.tokens.ids[table.tokens.offsets[:-1]].tolist() == ids
        assert json.loads((folder / "table.json").read_text())["counts"]["rows"] == 20


@pytest.fixture
def read_settings(tiny_model: Path) -> ReadSettings:
    from embedft.data.load import read_settings

    return read_settings(Encoder(str(tiny_model)), "answer", context_required=False)


CONFIGS = {
    "config: SECRET": "config: a config can't name another",
    "{config: SECRET}": "config: a config can't name another",
    "trainer:\n  callbacks: SECRET": "callbacks: is a file",
    "trainer:\n  callbacks:\n  - SECRET": "an entry: is a file",
    "model: SECRET": "model: is a file",
    "a: &a [x]\n" + "b: [" + ", ".join(["*a"] * 20) + "]": "has more than 10 aliases",
    "x: " + "y" * (1 << 21): "is larger than",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configs(text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0")
    path = tmp_path / "c.yaml"
    path.write_text(text.replace("SECRET", str(tmp_path / "secret")))
    with pytest.raises(InputError, match=CONFIGS[text]) as error:
        refuse_odd_config(path)
    assert "x:0:0" not in str(error.value)


FLAGS = {
    "--precision=transformer-engine": "Requirement 'transformer_engine",
    "--accelerator=tpu": "Requirement 'torch_xla",
    "--data.num_workers=10000": "num_workers: is 10000, must be at most",
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags(
    flag: str, fit_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["fit", f"--output_dir={tmp_path}/out", *fit_flags, flag]
    assert FLAGS[flag] in ending(args, capsys)


ROWS = {
    "an escape": '{"question": "a", "\\u001b]0;pwned\\u0007\\u001b[2J": 1}',
    "a line of its own": '{"question": "a", "x\\nembedft: done, all is well\\n": 1}',
    "a key of a megabyte": json.dumps({"question": "a", "k" * 1_000_000: 1}),
    "keys twice": '{"question": "a", "\\u001b[2J": 1, "\\u001b[2J": 1}',
    "a label of many digits": '{"question": "a", "answer": "b", "label": 1' + "0" * 4000 + "}",
    "C1 controls": '{"question": "a", "\\u009b2J": 1}',
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(
    name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        ROWS[name] + "\n" + "".join(json.dumps(row) + "\n" for row in sample_rows()[:9])
    )
    flags = [f"--input_jsonl={path}", f"--base_model={tiny_model}", f"--output_dir={tmp_path}/out"]
    said = ending(["fit", *flags], capsys)
    assert f"{path}:1: " in said
    assert said[:-1].isprintable()
    assert len(said) < 700


def test_a_damaged_embedding_is_made_again(tmp_path: Path) -> None:
    from embedft.inference.embedding_file import _sums

    embeddings = torch.randn(4, 8).numpy()
    sums = _sums(embeddings)
    embeddings[1], embeddings[2, 3] = 0, embeddings[2, 3] + 1
    assert (sums == _sums(embeddings)).tolist() == [True, False, False, True]
    assert (_sums(embeddings) != 0).all()


def test_check_refuses_a_pipe(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    os.mkfifo(tmp_path / "f")
    said = ending(["check", f"{tmp_path}/f", f"--base_model={tiny_model}"], capsys)
    assert "is a pipe or device" in said
