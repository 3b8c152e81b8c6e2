"""The ``check`` command: what a fit would see and take, and what to change before it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer

from embedft.check.advice import CheckedRun, data_advice, run_advice
from embedft.check.charts import charts
from embedft.check.estimate import estimate_run
from embedft.check.measures import DataMeasures, measure_data
from embedft.check.sections import advice_section, data_section, examples_section, run_section
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.load import read_settings
from embedft.errors import InputError
from embedft.report.page import HtmlText, Section, write_page
from embedft.table.settings import Target
from embedft.tools.log import only_errors
from embedft.training.module import EmbeddingModule


def check(
    trainer: Trainer, module: EmbeddingModule, settings: EmbeddingDataModule, html: str | None
) -> None:
    """Prints what a fit with these settings would see and take, and what to change.

    Only the page is written. Some training steps are timed, so the module is no longer the base
    model afterwards.

    Args:
        trainer: As for the fit.
        module: As for the fit.
        settings: As for the fit; bad rows are left out here whatever ``on_bad_rows`` is.
        html: The page to write; None for none.

    Raises:
        InputError: A fit would refuse the file. It is raised after everything else is printed.
    """
    report = _CheckReport(settings.input_jsonl, html)
    data = _measure(module, settings)
    report.add_data(data, module.encoder.max_seq_length)
    refusal = _bad_rows_error(data) if settings.on_bad_rows == "error" else None
    advice = list(data_advice(data))
    settings.on_bad_rows = "skip"
    try:
        with tempfile.TemporaryDirectory() as cache, only_errors("embedft"):
            settings.cache_dir = Path(cache)
            estimate = estimate_run(trainer, module, settings)
    except InputError as error:
        refusal = refusal or error
    else:
        report.add(run_section(data, estimate, trainer))
        run = CheckedRun(data, estimate, module, settings, trainer)
        advice = [*run_advice(run), *advice]
    report.finish(advice, refusal)


def check_file(path: str, positive: Target, html: str | None, refusal: InputError) -> None:
    """Prints what can be said of a file if there is no model.

    Args:
        path: The file.
        positive: The target of a question.
        html: The page to write; None for none.
        refusal: The reason why there is no model.

    Raises:
        InputError: ``refusal``, or the file can't be used either.
    """
    report = _CheckReport(path, html)
    with only_errors("embedft"):
        data = measure_data(path, positive, None)
    report.add_data(data, 0)
    report.finish(list(data_advice(data)), refusal)


def _measure(module: EmbeddingModule, settings: EmbeddingDataModule) -> DataMeasures:
    encoder, positive = module.encoder, settings.positive
    reading = read_settings(
        encoder,
        positive,
        context_required=positive == "context",
        negatives=settings.hard_negatives > 0,
    )
    with only_errors("embedft"):
        return measure_data(settings.input_jsonl, positive, reading, encoder.tokenizer.unk_token_id)


def _bad_rows_error(data: DataMeasures) -> InputError | None:
    counts = data.table.read_counts(drop_duplicates=True)
    if not counts.skipped:
        return None
    return InputError(
        f"{counts.path}: {counts.skipped:,} of {counts.rows:,} rows are bad, so fit refuses it. "
        "Fix them, or leave them out with --on_bad_rows skip"
    )


class _CheckReport:
    """Prints sections as they come, and collects them for the page, which shows more."""

    def __init__(self, path: str, html: str | None) -> None:
        self.title, self.html = f"check of {path}", html
        self.sections: list[Section] = []
        self.examples = Section("Examples")

    def add(self, section: Section, on_page: Section | None = None) -> None:
        """Prints a section, and adds it, or another version of it, to the page."""
        if section.blocks:
            print(section.as_text(), flush=True)
        self.sections.append(on_page or section)

    def add_data(self, data: DataMeasures, limit: int) -> None:
        """Adds the section about the data; the page also gets charts and examples."""
        section = data_section(data, limit)
        on_page = None
        if self.html is not None:
            on_page = Section(section.title, [*section.blocks, *charts(data, limit)])
            self.examples = examples_section(data)
        self.add(section, on_page)

    def finish(self, advice: Sequence[str], refusal: InputError | None) -> None:
        """Prints what to change, writes the page, and raises the refusal if there is one."""
        section = advice_section(advice, can_train=refusal is None)
        on_page = None
        if refusal is not None:  # the terminal shows it as the error that ends the command
            on_page = Section(section.title, [HtmlText(str(refusal), "warning"), *section.blocks])
        self.add(section, on_page)
        if self.html is not None:  # advice is last on a terminal and first on a page
            *measured, advice_first = self.sections
            write_page(Path(self.html), self.title, [advice_first, *measured, self.examples])
            print(f"page: {self.html}", flush=True)
        if refusal is not None:
            raise refusal
