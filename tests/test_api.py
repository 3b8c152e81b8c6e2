"""fit, evaluate and search from Python do what the command line does, and raise instead of exit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers import SentenceTransformer
from tiny import sample_rows, write_jsonl

import embedft

Settings = dict[str, Any]


@pytest.fixture
def settings(tiny_model: Path) -> Settings:
    return {
        "base_model": tiny_model,
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "train_split": 0.8,
        "accelerator": "cpu",
        "precision": "32-true",
        "trainer.enable_progress_bar": False,
    }


@pytest.fixture
def fitted(pairs: Path, tmp_path: Path, settings: Settings) -> embedft.FitResult:
    return embedft.fit(
        input_jsonl=pairs,
        output_dir=tmp_path / "out",
        **settings,
        **{"model.loss": {"class_path": "ContrastiveLoss", "init_args": {"margin": 0.4}}},
    )


def test_ten_lines(fitted: embedft.FitResult, pairs: Path, tmp_path: Path) -> None:
    """Fit, measure, search: the files are those of the command line, the numbers agree."""
    out = tmp_path / "out"
    assert (fitted.output_dir, fitted.best_model) == (out, out / "best_model")
    assert fitted.final_model == out / "final_model"
    assert fitted.metrics == json.loads((out / "metrics.json").read_text())
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"]["loss"]["class_path"] == "embedft.ContrastiveLoss"
    assert config["model"]["loss"]["init_args"]["margin"] == 0.4

    same = {"train_split": 0.8, "precision": "32-true", "accelerator": "cpu"}
    last = embedft.evaluate(fitted.final_model, pairs, **same)
    assert set(last) >= {"ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10", "map@100"}
    for name, value in last.items():
        if name != "loss":  # that of the loss of the run
            assert value == pytest.approx(fitted.metrics["last"][name], abs=1e-5), name
    of_best = embedft.evaluate(fitted.best_model, pairs, **same)
    assert of_best["ndcg@10"] == pytest.approx(fitted.metrics["best_model"]["ndcg@10"], abs=1e-6)
    everything = embedft.evaluate(fitted.final_model, pairs, **same | {"train_split": 0})
    assert everything["ndcg@10"] != last["ndcg@10"]

    own = sample_rows(pairs)[5]["answer"]
    many = embedft.search([own, "dust"], fitted.best_model, pairs, top_k=3, precision="32-true")
    assert [len(hits) for hits in many] == [3, 3]
    assert embedft.search(own, fitted.best_model, pairs, top_k=3, precision="32-true") == many[:1]
    oracle = SentenceTransformer(str(fitted.best_model), device="cpu")
    for question, (best, *_) in zip([own, "dust"], many, strict=True):
        assert isinstance(best, embedft.Hit)
        cosine = float(oracle.similarity(oracle.encode(question), oracle.encode(best.text)))
        assert best.score == pytest.approx(cosine, abs=1e-5)
    assert many[0][0].text == own
    assert embedft.search([], fitted.best_model, pairs) == []


def test_quiet_prints_nothing_but_warnings(
    pairs: Path, tmp_path: Path, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with pairs.open("a") as stream:
        stream.write("{}\n")
    del settings["trainer.enable_progress_bar"]
    settings |= {"on_bad_rows": "skip", "quiet": True}
    capfd.readouterr()
    result = embedft.fit(pairs, tmp_path / "out", **settings)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == f"warning: {pairs}:61: question: missing (the row's keys: none)\n"
    log = (result.output_dir / "logs" / "embedding_finetuning.log").read_text()
    assert "INFO schedule: " in log
    assert "| ndcg@10 " in log
    same = {name: settings[name] for name in ("train_split", "precision", "accelerator", "quiet")}
    embedft.evaluate(result.best_model, pairs, on_bad_rows="skip", **same)
    embedft.search("dust", result.best_model, pairs, on_bad_rows="skip", quiet=True)
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == said.err.count("question: missing") > 0


def test_a_config_file_and_what_wins_over_it(
    pairs: Path, tmp_path: Path, settings: Settings
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("trainer:\n  max_steps: 1\ndata:\n  split_seed: 3\n  batch_size: 4\n")
    second.write_text("data:\n  split_seed: 4\nmodel:\n  max_seq_length: 32\n")
    result = embedft.fit(
        pairs,
        tmp_path / "out",
        batch_size=2,
        **{name: value for name, value in settings.items() if name != "batch_size"},
        max_seq_length=None,
        config=[first, second],
    )
    assert result.metrics["last"]["step"] == 1
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (config["data"]["split_seed"], config["data"]["batch_size"]) == (4, 2)
    assert config["model"]["max_seq_length"] is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epoch": 1}, "--epoch=1; did you mean --epochs?"),
        ({"batch_size": 0}, "batch_size: is 0, must be at least 1"),
        ({"batch_size": "many"}, "is many, expected a whole number"),
        ({"base_model": "/no/where"}, "base_model /no/where: not found"),
        ({"precision": "7-true"}, "7-true"),
        ({"loss_function": "cosin"}, "did you mean CosineSimilarityLoss?"),
        ({"model.loss": embedft.ContrastiveLoss()}, "model.loss: is a ContrastiveLoss; give a"),
        ({"config": "/no/where.yaml"}, "/no/where.yaml"),
    ],
)
def test_bad_input(
    pairs: Path, tmp_path: Path, settings: Settings, changed: Settings, message: str
) -> None:
    with pytest.raises(embedft.InputError) as error:
        embedft.fit(pairs, tmp_path / "out", **settings | changed)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_bad_data(pairs: Path, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(embedft.InputError, match="nowhere.jsonl: no such file"):
        embedft.fit("nowhere.jsonl", tmp_path / "out", base_model=tiny_model)
    with pytest.raises(embedft.InputError, match="nowhere.jsonl: no such file"):
        embedft.evaluate(tiny_model, "nowhere.jsonl")
    with pytest.raises(embedft.InputError, match="top_k: is 0"):
        embedft.search("dust", tiny_model, pairs, top_k=0)
    few = write_jsonl(tmp_path / "few.jsonl", [{"question": "q", "answer": "a"}, {"question": "b"}])
    with pytest.raises(embedft.InputError, match=r"few.jsonl:2: answer: missing"):
        embedft.search("dust", tiny_model, few)


def test_a_folder_in_use_is_refused(
    fitted: embedft.FitResult, pairs: Path, settings: Settings
) -> None:
    with pytest.raises(embedft.InputError, match="holds another run"):
        embedft.fit(pairs, fitted.output_dir, **settings)
    again = embedft.fit(pairs, fitted.output_dir, **settings, overwrite=True)
    assert again.metrics["data"] == fitted.metrics["data"]
