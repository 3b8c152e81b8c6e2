"""The ``check`` command: a file and the settings of a fit in numbers, and what to change."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer

from embedft.check.advice import about_data, about_run
from embedft.check.estimate import estimate_run
from embedft.check.measures import DataIssue, DataMeasures, data_issues, measure_data
from embedft.check.sections import data_section, example_lines, run_section
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.load import read_settings
from embedft.errors import InputError
from embedft.report.page import HtmlText, Section, write_page
from embedft.table.settings import Positive
from embedft.tools.files import replacing_file
from embedft.training.module import EmbeddingModule


def check(
    trainer: Trainer, module: EmbeddingModule, settings: EmbeddingDataModule, html: str | None
) -> None:
    """Prints what a fit with these settings would see and take, and what to change.

    Nothing is written but the page. Steps are taken to time them: the module is then no longer the
    base model.

    Args:
        trainer: As for the fit.
        module: As for the fit.
        settings: As for the fit; bad rows are left out here whatever it says.
        html: The page to write; None for none.

    Raises:
        InputError: A fit would refuse the file; raised when all else is said.
    """
    encoder = module.encoder
    page = _Page(settings.input_jsonl, html)
    with _only_errors():
        data = measure_data(
            settings.input_jsonl,
            settings.positive,
            read_settings(
                encoder,
                settings.positive,
                context_required=settings.positive == "context",
                negatives=settings.hard_negatives > 0,
            ),
            encoder.tokenizer.unk_token_id,
        )
    found = data_issues(data)
    page.add_data(data, found, encoder.max_seq_length)
    refusal = _refusal(data) if settings.on_bad_rows == "error" else None
    advice = list(about_data(data, found))
    settings.on_bad_rows = "skip"
    try:
        with tempfile.TemporaryDirectory() as cache, _only_errors():
            settings.cache_dir = Path(cache)
            run = estimate_run(trainer, module, settings)
    except InputError as error:
        refusal = refusal or error
    else:
        page.add(run_section(data, run, trainer))
        advice = [*about_run(data, found, run, module, settings, trainer), *advice]
    page.finish(advice, refusal)


def check_file(path: str, positive: Positive, html: str | None, refusal: InputError) -> None:
    """What can be said of a file without a model.

    Args:
        path: The file.
        positive: What a question is trained to find.
        html: The page to write; None for none.
        refusal: Why there is no model.

    Raises:
        InputError: ``refusal``, or the file can't be used either.
    """
    page = _Page(path, html)
    with _only_errors():
        data = measure_data(path, positive, None)
    found = data_issues(data)
    page.add_data(data, found, 0)
    page.finish(list(about_data(data, found)), refusal)


class _Page:
    """Prints sections as they come, and keeps them for the page, where they say more."""

    def __init__(self, path: str, html: str | None) -> None:
        self.title, self.html = f"check of {path}", html
        self.sections: list[Section] = []

    def add(self, section: Section, fuller: Section | None = None) -> None:
        if section.blocks:
            print(section.as_text(), flush=True)
        self.sections.append(fuller or section)

    def add_data(self, data: DataMeasures, found: dict[str, DataIssue], limit: int) -> None:
        fuller = None
        if self.html is not None:
            from embedft.check.charts import charts

            fuller = data_section(data, found, limit)
            fuller.blocks.extend(charts(data, limit))
            self.examples = example_lines(data, found)
        self.add(data_section(data, found, limit), fuller)

    def finish(self, advice: Sequence[str], refusal: InputError | None) -> None:
        """Says what to change, writes the page, and raises the refusal if there is one."""
        blocks = [HtmlText(f"- {line}") for line in advice]
        if refusal is None:
            blocks.append(
                HtmlText("To train, give the same flags to: python -m embedft fit", "good")
            )
        self.add(
            Section("Advice", [*blocks]),
            Section("Advice", [*([HtmlText(str(refusal), "warning")] if refusal else []), *blocks]),
        )
        if self.html is not None:
            if self.examples.rows:
                self.sections.append(Section("Examples", [self.examples]))
            write_page(Path(self.html), self.title, self.sections)
            print(f"page: {self.html}", flush=True)
        if refusal is not None:
            raise refusal


def _refusal(data: DataMeasures) -> InputError | None:
    reading = data.table.report(drop_duplicates=True)
    if not reading.skipped:
        return None
    return InputError(
        f"{reading.path}: {reading.skipped:,} of {reading.rows:,} rows are bad, so fit refuses it; "
        "mend them or leave them out with --on_bad_rows skip"
    )


@contextmanager
def _only_errors() -> Iterator[None]:
    """Keeps the lines of a fit, which are said here in another way, out of the report."""
    log = logging.getLogger("embedft")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
