"""The ``check`` command: a file and the settings of a fit in numbers, and what to change."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer

from embedft.advice import LIMITS, about_data, about_run
from embedft.data.blocks import Positive
from embedft.data.datamodule import EmbeddingDataModule
from embedft.data.measures import DataMeasures, Finding, findings, measure_data
from embedft.data.pairs import RIGHT
from embedft.data.reading import read_settings
from embedft.data.records import stream_records
from embedft.data.report import ReadReport
from embedft.errors import InputError
from embedft.files import replacing_file
from embedft.report.page import Section, Table, Text, render
from embedft.report.plain import plain_table
from embedft.training.module import EmbeddingModule
from embedft.training.rehearsal import Rehearsal, rehearse

_SHOWN = 200  # letters of an example


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
    found = findings(data)
    page.add_data(data, found, encoder.max_seq_length)
    refusal = _refusal(data) if settings.on_bad_rows == "error" else None
    advice = list(about_data(data, found))
    settings.on_bad_rows = "skip"
    try:
        with tempfile.TemporaryDirectory() as cache, _only_errors():
            settings.cache_dir = Path(cache)
            run = rehearse(trainer, module, settings)
    except InputError as error:
        refusal = refusal or error
    else:
        page.add(_run_section(data, run, trainer))
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
    found = findings(data)
    page.add_data(data, found, 0)
    page.finish(list(about_data(data, found)), refusal)


class _Page:
    """Prints sections as they come, and keeps them for the page, where they say more."""

    def __init__(self, path: str, html: str | None) -> None:
        self.title, self.html = f"check of {path}", html
        self.sections: list[Section] = []

    def add(self, section: Section, fuller: Section | None = None) -> None:
        if section.blocks:
            print(_plain(section), flush=True)
        self.sections.append(fuller or section)

    def add_data(self, data: DataMeasures, found: dict[str, Finding], limit: int) -> None:
        fuller = None
        if self.html is not None:
            from embedft.report.check_charts import charts

            fuller = _data_section(data, found, limit)
            fuller.blocks.extend(charts(data, limit))
            self.examples = _examples(data, found)
        self.add(_data_section(data, found, limit), fuller)

    def finish(self, advice: Sequence[str], refusal: InputError | None) -> None:
        """Says what to change, writes the page, and raises the refusal if there is one."""
        blocks = [Text(f"- {line}") for line in advice]
        if refusal is None:
            blocks.append(Text("To train, give the same flags to: python -m embedft fit", "good"))
        self.add(
            Section("Advice", [*blocks]),
            Section("Advice", [*([Text(str(refusal), "warning")] if refusal else []), *blocks]),
        )
        if self.html is not None:
            if self.examples.rows:
                self.sections.append(Section("Examples", [self.examples]))
            text = render(self.title, self.sections)
            with replacing_file(Path(self.html)) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(f"page: {self.html}", flush=True)
        if refusal is not None:
            raise refusal


def _plain(section: Section) -> str:
    """A section's title, texts and tables."""
    parts = [f"\n{section.title.upper()}"]
    for block in section.blocks:
        if isinstance(block, Table):
            parts.append(
                f"\n{plain_table(block.head, [[str(cell) for cell in row] for row in block.rows])}"
            )
        elif isinstance(block, Text):
            parts.append(block.text)
    return "\n".join(parts)


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


def _data_section(data: DataMeasures, found: dict[str, Finding], limit: int) -> Section:
    reading = data.table.report(drop_duplicates=True)
    blocks: list[Text | Table] = [
        Text(
            f"{reading.path}: {reading.rows:,} rows, {reading.skipped:,} bad, "
            f"{reading.valid:,} used"
        )
    ]
    if reading.skipped:
        blocks += [Text(problem, "warning") for problem in reading.problems]
        if more := reading.skipped - len(reading.bad_rows):
            blocks.append(Text(f"... and {more:,} more bad rows", "warning"))
    if reading.same_ids:
        blocks.append(Text(f"warning: {reading.same_ids_in_words}", "warning"))
    blocks.append(_findings_table(found))
    if data.tokens:
        blocks.append(_tokens_table(data, limit))
    blocks += [Text(_languages(data)), Text(_files(data))]
    if data.table.label is not None:
        blocks.append(Text(_labels(data)))
    return Section("Data", [*blocks])


def _findings_table(found: dict[str, Finding]) -> Table:
    rows = [
        [
            finding.name,
            f"{finding.count:,}",
            _percent(finding.share),
            " and ".join(map(str, lines)) if (lines := next(iter(finding.lines), ())) else "",
        ]
        for finding in found.values()
    ]
    return Table(["of the rows or texts", "count", "share", "lines, e.g."], rows)


def _examples(data: DataMeasures, found: dict[str, Finding]) -> Table:
    """The first rows of each finding, with their texts."""
    wanted = {line for finding in found.values() for lines in finding.lines for line in lines}
    path = data.table.path
    records = {
        row.line: row for row in stream_records(path, ReadReport(path)) if row.line in wanted
    }
    rows = [
        [
            f"{finding.name}: line {line}",
            _start(records[line].question),
            _start(records[line].answer),
        ]
        for finding in found.values()
        for lines in finding.lines
        for line in lines
    ]
    return Table(["examples", "question", "answer"], rows)


def _start(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _tokens_table(data: DataMeasures, limit: int) -> Table:
    limits = sorted({*LIMITS, limit})
    rows = [
        [
            name,
            f"{len(lengths):,}",
            f"{np.median(lengths):,.0f}",
            f"{np.percentile(lengths, 95):,.0f}",
            f"{lengths.max():,}",
            *(_percent(data.share_longer(name, most)) for most in limits),
        ]
        for name, lengths in data.tokens.items()
        if len(lengths)
    ]
    over = [f"over {most}" + (" (cut)" if most == limit else "") for most in limits]
    return Table(["tokens", "texts", "median", "95%", "longest", *over], rows)


def _languages(data: DataMeasures) -> str:
    total = data.texts.languages.total()
    usual = [
        (name, count) for name, count in data.texts.languages.most_common(6) if count > total / 100
    ]
    parts = [f"{name} {_percent(count / total)}" for name, count in usual]
    if rest := total - sum(count for _, count in usual):
        parts.append(f"others {_percent(rest / total)}")
    drawn = f" (of {total:,} rows drawn)" if total < len(data.table) else ""
    unknown = f"; unknown tokens {_percent(data.unknown)}" if data.tokens else ""
    return f"languages: {', '.join(parts)}{drawn}{unknown}"


def _files(data: DataMeasures) -> str:
    counts = data.pairs_a_file
    if not len(counts):
        return "files: none named"
    if counts.min() == counts.max():
        return f"files: {len(counts):,}, with {counts[0]:,} pairs each"
    return (
        f"files: {len(counts):,}, with {counts.min():,} to {counts.max():,} pairs each, "
        f"median {np.median(counts):,.0f}"
    )


def _labels(data: DataMeasures) -> str:
    assert data.table.label is not None
    label = data.table.label[data.used]
    right, none = int((label >= RIGHT).sum()), int(np.isnan(label).sum())
    return (
        f"labels: {right:,} rows from {RIGHT} on (right answers), "
        f"{len(label) - right - none:,} below, {none:,} without"
    )


def _run_section(data: DataMeasures, run: Rehearsal, trainer: Trainer) -> Section:
    sizes = np.unique(data.group, return_counts=True)[1]
    held_out = "a file of your own"
    if run.held_out is not None:
        held_out = f"{len(run.held_out):,} rows"
    devices = f" on each of {run.devices} devices" if run.devices > 1 else ""
    rows = [
        ["trained on", f"{len(run.train):,} rows"],
        ["held out", f"{held_out}: {run.questions:,} questions, searched in {run.corpus:,} texts"],
        [
            "groups",
            f"{len(sizes):,}, tied by a file, a question or an answer; the largest has "
            f"{_percent(sizes.max() / sizes.sum())} of the rows",
        ],
        [
            "steps",
            f"{run.steps:,} of {run.batch_size:,} pairs ({trainer.max_epochs} epochs), "
            f"{run.warmup:,} of them warm-up",
        ],
        [
            "time",
            f"about {duration(run.train_seconds + run.eval_seconds)}{devices}: steps "
            f"{duration(run.train_seconds)}, {run.evaluations} evaluations "
            f"{duration(run.eval_seconds)} (timed here: {run.device})",
        ],
    ]
    return Section("Run", [Table(["fit with these settings", ""], rows)])


def duration(seconds: float) -> str:
    """A time in the unit that fits, two digits or so."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _percent(share: float) -> str:
    return f"{share:.1%}"
