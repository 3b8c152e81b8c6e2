"""report.html of a fit or a test shows what was measured, whatever the run was like."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from report_data import report_data
from runs import FinishedRun
from sentence_transformers import SentenceTransformer
from tiny import sample_rows, write_jsonl

from embedft.cli.main import main
from embedft.evaluation.metrics import LABELS
from embedft.evaluation.query_results import QueryResults
from embedft.report.fit_report import write_report

HOSTILE = "<script>alert('ü')</script> & \u202e\t\"why\"?"


class Page(HTMLParser):
    """Headings, tables by cells, and all text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self.text = ""
        self.within = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag == "h2":
            self.headings.append("")
        if tag in {"td", "th", "h2", "text", "style"}:
            self.within = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.within:
            self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "h2":
            self.headings[-1] += data
        elif self.within in {"td", "th"}:
            self.rows[-1][-1] += data
        if self.within != "style":
            self.text += data

    def row(self, first: str) -> list[str]:
        """The first row whose first cell is this text."""
        return next(row for row in self.rows if row and row[0] == first)


ALL = ["Verdict", "Training", "Ranks", "Similarities", "Map"]
ALL_LAST = ["By file", "Data and settings"]


def test_report_shows_what_was_measured(
    fit: Callable[..., Path], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row | {"question": f"{HOSTILE} {row['question']}", "answer": f"{row['answer']} {HOSTILE}"}
        for row in sample_rows()[:60]
    ]
    write_jsonl(pairs, rows)
    out = fit()
    assert f"report:      {out / 'report.html'}" in capsys.readouterr().out
    page = Page(out / "report.html")
    metrics = json.loads((out / "metrics.json").read_text())
    assert page.headings[:5] == ALL
    assert page.headings[-2:] == ["By file", "Data and settings"]
    for metric, label in (("ndcg@10", "nDCG@10"), ("recall@5", "recall@5")):
        base, best = (metrics[name][metric] for name in ("base", "best"))
        _, *shown, interval = page.row(label)
        assert shown == [f"{base:.4f}", f"{best:.4f}", f"{best - base:+.4f}"]
        assert re.fullmatch(r"[+-][01]\.\d{4} to [+-][01]\.\d{4}", interval)
    if gain := metrics["best"].get("gain"):
        assert page.row("nDCG@10")[4] == f"{gain['low']:+.4f} to {gain['high']:+.4f}"
    assert page.row("train examples")[1] == "50"
    assert page.row("learning_rate")[1] == "0.001"
    assert page.row("held-out questions")[1] == "10"

    found = stored_results(out, "base"), stored_results(out, "best")
    up, down = (int((one.ranks < other.ranks).sum()) for one, other in (found[::-1], found))
    assert (
        f"Of 10 questions, {up} rank their relevant answer higher than before, {down} lower"
        in page.text
    )
    changed = [heading for heading in page.headings if heading.startswith("Most")]
    assert changed == ["Most improved"] * (up > 0) + ["Most worsened"] * (down > 0)
    moved = [
        row for row in page.rows if row and row[0] == "" and "relevant answer at rank" in row[1]
    ]
    assert len(moved) == min(up, 5) + min(down, 5)
    right = [cell for row in page.rows for cell in row if "✓ relevant answer" in cell]
    assert len(right) >= 2 * len(moved), "before and after, the right answer is always shown"
    answers = {" ".join(row["answer"].split()) for row in rows}
    for cell in right:
        text = cell.split("✓ relevant answer")[0]
        assert text.rstrip("…") in {answer[: len(text.rstrip("…"))] for answer in answers}

    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    html = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!#)", html)
    assert "<script>" not in html


def stored_results(out: Path, name: str) -> QueryResults:
    """The results that the last checkpoint stores."""
    saved = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    return QueryResults.from_state_dict(saved["callbacks"]["RunFiles"]["findings"][name])


def test_stored_query_results_are_the_metrics(finished_run: FinishedRun) -> None:
    """Ranks, top answers and embeddings agree with each other and with what was logged."""
    out = finished_run.folder
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("base", "last"):
        found = stored_results(out, name)
        assert found.ndcg.mean() == pytest.approx(metrics[name]["ndcg@10"], abs=1e-6)
        assert found.sample.tolist() == list(range(10))
        cosines = torch.nn.functional.cosine_similarity(
            found.question_embeddings, found.answer_embeddings
        )
        torch.testing.assert_close(cosines.double(), found.best_scores, rtol=0, atol=1e-5)
        for rank, index, top in zip(
            found.ranks.tolist(),
            found.best_indices.tolist(),
            found.top_indices.tolist(),
            strict=True,
        ):
            assert (top[rank - 1] == index) if rank <= 3 else (index not in top)


@pytest.mark.slow
@pytest.mark.parametrize("share", ["0", "0.4"])
def test_a_stopped_run_writes_the_whole_report(
    fit: Callable[..., Path], tmp_path: Path, share: str
) -> None:
    """The report has the same bytes as that of a run that was not stopped."""
    flags = [f"--model.base_share={share}", "--save_steps=3"]
    whole = fit(*flags, output_dir=tmp_path / "whole")
    stop = ["--trainer.callbacks+=recorder.Recorder", f"--trainer.callbacks.path={tmp_path}/r"]
    with pytest.raises(RuntimeError, match="the test wants it so"):
        fit(*flags, *stop, "--trainer.callbacks.fail_after=10", output_dir=tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "report.html").exists()
    stopped = fit(*flags, "--ckpt_path=last", output_dir=tmp_path / "stopped")
    assert (stopped / "report.html").read_bytes() == (whole / "report.html").read_bytes()
    finished = fit(*flags, "--ckpt_path=last", output_dir=tmp_path / "stopped")
    assert (finished / "report.html").read_bytes() == (whole / "report.html").read_bytes()
    assert (whole / "report.html").stat().st_size < 1_000_000


def test_without_the_base_model(fit: Callable[..., Path]) -> None:
    page = Page(fit("--epochs=1", "--trainer.num_sanity_val_steps=0") / "report.html")
    assert page.headings == [*ALL[:2], *ALL[3:], "Data and settings"]
    assert "The base model was not measured" in page.text
    assert page.row("metric") == ["metric", "tuned model"]


def test_labelled_contexts(fit: Callable[..., Path], pairs: Path) -> None:
    """Questions with several relevant answers and contexts; the texts shown were in the corpus."""
    rows = [
        row
        | {"context": f"CONTEXT {row['answer']}", "label": 1 if i % 3 else 0, "file_name": ""}
        | {"question": f"Which? {i // 4}"}
        for i, row in enumerate(sample_rows()[:60])
    ]
    write_jsonl(pairs, rows)
    flags = ["--epochs=1", "--loss_function=contrastive", "--data.positive=both"]
    page = Page(fit(*flags) / "report.html")
    assert page.headings[:2] == ALL[:2]
    assert "By file" not in page.headings
    right = [cell for row in page.rows for cell in row if "✓ relevant answer" in cell]
    searched = {" ".join(row[key].split()) for row in rows for key in ("answer", "context")}
    assert right
    assert {cell.split("✓")[0] for cell in right} <= searched


def test_one_question_and_few_answers(fit: Callable[..., Path], pairs: Path) -> None:
    """The smallest set: one question, so its interval is -1 to 1."""
    own = write_jsonl(pairs.with_name("own.jsonl"), sample_rows()[60:61])
    write_jsonl(pairs, sample_rows()[:2])
    page = Page(fit("--epochs=1", f"--validation_jsonl={own}") / "report.html")
    assert page.row("held-out questions")[1] == "1"
    assert page.row("answers in the corpus")[1] == "3"


def test_overwrite_knows_the_report(fit: Callable[..., Path], run_copy: Path) -> None:
    (run_copy / "report.html").write_text("an old one")
    with pytest.raises(SystemExit):
        fit()
    assert (run_copy / "report.html").read_text() == "an old one"
    assert "Verdict" in Page(fit("--overwrite", "--epochs=1") / "report.html").headings


@pytest.mark.parametrize("subcommand", ["test", "validate"])
def test_report_of_a_test(
    run_copy: Path,
    fit_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    subcommand: str,
) -> None:
    """A test measures a checkpoint and its base model; the metrics equal those of the fit."""
    out = run_copy
    measure = [subcommand, *fit_flags, f"--output_dir={out}", f"--report={tmp_path}/t.html"]
    main([*measure, "--ckpt_path=last"])
    said = capsys.readouterr().out
    assert f"report: {tmp_path}/t.html" in said
    assert said.count("ndcg@10 ") == 1
    assert "| base   | checkpoint | checkpoint - base |" in said
    metrics = json.loads((out / "metrics.json").read_text())
    page = Page(tmp_path / "t.html")
    assert page.headings[:4] == ["Verdict", *ALL[2:]]
    base, last = (metrics[name]["ndcg@10"] for name in ("base", "last"))
    assert page.row("nDCG@10")[1:3] == [f"{base:.4f}", f"{last:.4f}"]
    assert f"{base:.4f} before, {last:.4f} after" in page.text
    before = (tmp_path / "t.html").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main([*measure, "--ckpt_path=last"])
    assert stop.value.code == 2
    assert "t.html: exists already; give another --report or --overwrite" in capsys.readouterr().err
    assert (tmp_path / "t.html").read_bytes() == before

    main([*measure, "--overwrite"])
    page = Page(tmp_path / "t.html")
    assert "Only one model was measured" in page.text
    assert page.row("metric") == ["metric", "base model"]


def test_a_test_of_a_run_writes_its_page_there(
    run_copy: Path, fit_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each test of a checkpoint overwrites the page; a test of a base model and validate write none."""
    out = run_copy
    of_fit = (out / "report.html").read_bytes()
    page = out / "test_report.html"
    measure = [*fit_flags, f"--output_dir={out}"]
    main(["test", *measure])
    main(["validate", *measure, "--ckpt_path=last"])
    assert not page.exists()
    for _ in range(2):
        capsys.readouterr()
        main(["test", *measure, "--ckpt_path=last"])
        assert f"report: {page}" in capsys.readouterr().out
        assert Page(page).headings[0] == "Verdict"
        page.write_text("another test's")
    assert (out / "report.html").read_bytes() == of_fit


def test_another_logger(fit: Callable[..., Path], tmp_path: Path) -> None:
    """Lightning's CSVLogger in YAML, as docs/training.md has it: its file, and all of the report."""
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path), "name": "csv"}}
    config = tmp_path / "csv.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"logger": [logger]}}))
    out = fit(f"--config={config}")
    header, *lines = (tmp_path / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    metrics = json.loads((out / "metrics.json").read_text())

    def logged(name: str) -> list[float]:
        return [float(line[name]) for line in table if line[name]]

    assert logged("val/ndcg@10")[0] == pytest.approx(metrics["base"]["ndcg@10"])
    assert len(logged("val/ndcg@10")) == 3
    assert len(logged("train/loss")) == 14
    assert logged("verdict/ndcg@10_best") == [pytest.approx(metrics["best"]["ndcg@10"])]
    settings = (tmp_path / "csv" / "version_0" / "hparams.yaml").read_text()
    assert "batch_size: 8" in settings
    assert not list((out / "logs").glob("events*"))
    assert Page(out / "report.html").headings[:2] == ALL[:2]


def test_top_scores_are_the_exported_models(finished_minilm_run: FinishedRun) -> None:
    out = finished_minilm_run.folder
    model = SentenceTransformer(str(out / "final_model"), device="cpu")
    rows = sample_rows()[:60]
    answers = model.encode([row["answer"] for row in rows])
    questions = [
        json.loads(line) for line in (out / "metrics_by_question.jsonl").read_text().splitlines()
    ]
    scores = model.encode([line["question"] for line in questions]) @ answers.T
    expected = np.sort(scores, axis=1)[:, ::-1][:, :3]
    assert stored_results(out, "last").top_scores.numpy() == pytest.approx(expected, abs=1e-5)


def test_every_metric_has_a_row(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "a run", report_data())
    page = Page(tmp_path / "report.html")
    assert page.headings == [*ALL[:1], *ALL[2:], "Most improved", "Most worsened", *ALL_LAST]
    for label in LABELS.values():
        assert len(page.row(label)) == 5


def test_forgetting_is_a_warning(tmp_path: Path) -> None:
    for sentence, kind in (("It has FORGOTTEN more.", "warning"), ("It still finds.", "good")):
        write_report(tmp_path / "report.html", "a run", report_data(forgetting=sentence))
        html = (tmp_path / "report.html").read_text()
        assert f'<p class="{kind}">{sentence}</p>' in html


def test_ranks_in_words(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "a run", report_data())
    text = Page(tmp_path / "report.html").text
    assert "Of 4 questions, 1 rank their relevant answer higher than before, 1 lower, 2 at" in text
    assert "Relevant answer at rank 1: 2 before, 2 after; in the top 10: 4 before, 4 after." in text
    assert "12,345" in text
