"""The TensorBoard of a run, and what all loggers get at its end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from embedft.evaluation.metrics import PRIMARY
from embedft.evaluation.query_results import QueryResults
from embedft.evaluation.verdict import verdict
from embedft.report.run_data import ReportData
from embedft.tools.text import one_line

MAX_LABEL = 200
"""Characters of a text in the list of the embedding projector."""


def log_outcome(loggers: Sequence[Logger], step: int, report_data: ReportData) -> None:
    """Logs settings and final metrics to each logger, and the projector's files to TensorBoard.

    Args:
        loggers: Of the trainer.
        step: Last step of the run.
        report_data: The evaluations, their texts, and the settings.
    """
    metrics = final_metrics(report_data)
    settings = dict(report_data.settings)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings, metrics, step)  # a line of the HPARAMS tab
            sentence = verdict(report_data.base, report_data.tuned)
            logger.experiment.add_text("verdict", sentence, step)
            _project(logger, report_data)
        else:
            logger.log_hyperparams(settings)
            logger.log_metrics(metrics, step)
        logger.save()


def final_metrics(report_data: ReportData) -> dict[str, float]:
    """``verdict/...``: nDCG@10 of base and best model, and the gain with its interval."""
    metrics = {}
    for name, evaluation in (("base", report_data.base), ("best", report_data.tuned)):
        if evaluation is not None:
            metrics[f"verdict/{PRIMARY}_{name}"] = evaluation[PRIMARY]
    gain = (report_data.tuned or {}).get("gain")
    if gain is not None:
        metrics["verdict/gain"] = gain["mean"]
        metrics["verdict/gain_low"] = gain["low"]
        metrics["verdict/gain_high"] = gain["high"]
    return metrics


def _project(logger: TensorBoardLogger, report_data: ReportData) -> None:
    """Adds the sampled questions and answers by each model, with text, file and rank."""
    writer: Any = logger.experiment
    for name, results in report_data.results.items():
        tag = name.replace(" ", "_")
        # A resumed run may have written them before, and the writer would warn.
        shutil.rmtree(Path(logger.log_dir) / "00000" / tag, ignore_errors=True)
        writer.add_embedding(
            torch.cat([results.question_embeddings, results.answer_embeddings]),
            metadata=_labels(results, report_data),
            metadata_header=["text", "kind", "file", "rank"],
            tag=tag,
        )


def _labels(results: QueryResults, report_data: ReportData) -> list[list[str]]:
    """Text, kind, file and rank of each sampled question, then of each answer."""

    def label(text: str) -> str:  # tabs and line breaks would end a cell
        return one_line(text, MAX_LABEL)

    questions, answers = [], []
    for query in results.sample.tolist():
        rank = str(int(results.ranks[query]))
        row = report_data.rows[query]
        answer = report_data.documents[int(report_data.relevant[query][0])]
        questions.append([label(row.question), "question", label(row.file_name), rank])
        answers.append([label(answer.text), "answer", label(answer.file_name), rank])
    return questions + answers


LAYOUT = {
    "quality": {
        "gain of nDCG@10 over the base model, with its 95% interval": [
            "Margin",
            ["gain/ndcg@10", "gain/ndcg@10_low", "gain/ndcg@10_high"],
        ],
        "held-out questions": ["Multiline", ["val/ndcg@10", "val/mrr@10", "val/recall@10"]],
    },
    "training": {
        "loss, in training and held out": ["Multiline", ["train/loss", "val/loss"]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
    },
}
"""The CUSTOM SCALARS tab: by section title and chart title, the kind of chart and its curves."""


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard without the curves ``epoch`` and ``hp_metric`` that Lightning would add.

    Args:
        logs: Folder of the files: one for a run and for what resumes it.
    """

    def __init__(self, logs: Path) -> None:
        super().__init__(logs.parent, name=logs.name, version="", default_hp_metric=False)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs all metrics but the epoch."""
        kept = {name: value for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(kept, step)


def add_layout(loggers: Sequence[Logger]) -> None:
    """Gives the layout of the custom charts to the TensorBoards of a new run."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            writer: Any = logger.experiment
            writer.add_custom_scalars(LAYOUT)
