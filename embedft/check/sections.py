"""What check shows: the sections of its text and its page."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import Trainer

from embedft.check.advice import LIMITS
from embedft.check.estimate import RunEstimate
from embedft.check.measures import DataIssue, DataMeasures
from embedft.data.pairs import RELEVANT
from embedft.report.page import HtmlTable, HtmlText, Section
from embedft.table.jsonl import stream_records
from embedft.table.read_report import ReadCounts
from embedft.tools.text import one_line

_SHOWN = 200  # characters of an example text


def data_section(data: DataMeasures, found: dict[str, DataIssue], limit: int) -> Section:
    """What the file holds: counts, problems, lengths, languages and files."""
    reading = data.table.report(drop_duplicates=True)
    blocks: list[HtmlText | HtmlTable] = [
        HtmlText(
            f"{reading.path}: {reading.rows:,} rows, {reading.skipped:,} bad, "
            f"{reading.valid:,} used"
        )
    ]
    if reading.skipped:
        blocks += [HtmlText(problem, "warning") for problem in reading.problems]
        if more := reading.skipped - len(reading.bad_rows):
            blocks.append(HtmlText(f"... and {more:,} more bad rows", "warning"))
    if reading.same_ids:
        blocks.append(HtmlText(f"warning: {reading.same_ids_problem}", "warning"))
    blocks.append(_findings_table(found))
    if data.tokens:
        blocks.append(_tokens_table(data, limit))
    blocks += [HtmlText(_languages(data)), HtmlText(_files(data))]
    if data.table.label is not None:
        blocks.append(HtmlText(_labels(data)))
    return Section("Data", [*blocks])


def _findings_table(found: dict[str, DataIssue]) -> HtmlTable:
    rows = [
        [
            finding.name,
            f"{finding.count:,}",
            _percent(finding.share),
            " and ".join(map(str, lines)) if (lines := next(iter(finding.lines), ())) else "",
        ]
        for finding in found.values()
    ]
    return HtmlTable(["of the rows or texts", "count", "share", "lines, e.g."], rows)


def example_lines(data: DataMeasures, found: dict[str, DataIssue]) -> HtmlTable:
    """The first rows of each finding, with their texts."""
    wanted = {line for finding in found.values() for lines in finding.lines for line in lines}
    path = data.table.path
    records = {
        row.line: row for row in stream_records(path, ReadCounts(path)) if row.line in wanted
    }
    rows = [
        [
            f"{finding.name}: line {line}",
            one_line(records[line].question, _SHOWN),
            one_line(records[line].answer, _SHOWN),
        ]
        for finding in found.values()
        for lines in finding.lines
        for line in lines
    ]
    return HtmlTable(["examples", "question", "answer"], rows)


def _tokens_table(data: DataMeasures, limit: int) -> HtmlTable:
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
    return HtmlTable(["tokens", "texts", "median", "95%", "longest", *over], rows)


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
    right, none = int((label >= RELEVANT).sum()), int(np.isnan(label).sum())
    return (
        f"labels: {right:,} rows from {RELEVANT} on (right answers), "
        f"{len(label) - right - none:,} below, {none:,} without"
    )


def run_section(data: DataMeasures, run: RunEstimate, trainer: Trainer) -> Section:
    """What a fit with these settings would do, and how long it would take."""
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
    return Section("Run", [HtmlTable(["fit with these settings", ""], rows)])


def duration(seconds: float) -> str:
    """A time in the unit that fits, two digits or so."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _percent(share: float) -> str:
    return f"{share:.1%}"
