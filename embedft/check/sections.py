"""The sections that ``check`` prints and writes to its page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Trainer

from embedft.check.estimate import RunEstimate
from embedft.check.measures import LENGTH_LIMITS, DataMeasures
from embedft.data.pairs import RELEVANT
from embedft.report.page import Block, HtmlTable, HtmlText, Section
from embedft.table.jsonl import key_notes_of, stream_records
from embedft.table.read_report import ReadCounts
from embedft.tools.text import one_line

_MAX_TEXT = 200  # characters of an example text


def data_section(data: DataMeasures, limit: int) -> Section:
    """What the file holds: counts, issues, lengths, languages, files and labels.

    Args:
        data: The measures of the file.
        limit: Tokens at which texts are truncated.
    """
    counts = data.table.read_counts(drop_duplicates=True)
    blocks: list[Block] = [
        HtmlText(
            f"{counts.path}: {counts.rows:,} rows, {counts.skipped:,} bad, {counts.valid:,} used"
        ),
        *(HtmlText(problem, "warning") for problem in counts.problems),
    ]
    if more := counts.skipped - len(counts.bad_rows):
        blocks.append(HtmlText(f"... and {more:,} more bad rows", "warning"))
    if counts.same_ids:
        blocks.append(HtmlText(f"warning: {counts.same_ids_problem}", "warning"))
    blocks += [
        HtmlText(f"warning: {counts.path}: {note}", "warning")
        for is_warning, note in key_notes_of(counts.path)
        if is_warning
    ]
    blocks.append(_issues_table(data))
    if data.tokens:
        blocks.append(_tokens_table(data, limit))
    blocks += [HtmlText(_languages(data)), HtmlText(_files(data))]
    if data.table.label is not None:
        blocks.append(HtmlText(_labels(data)))
    return Section("Data", blocks)


def _issues_table(data: DataMeasures) -> HtmlTable:
    rows = [
        [
            issue.name,
            f"{issue.count:,}",
            _percent(issue.share),
            " and ".join(map(str, issue.lines[0])) if issue.lines else "",
        ]
        for issue in data.issues.values()
    ]
    return HtmlTable(["rows or texts", "count", "share", "example lines"], rows)


def _tokens_table(data: DataMeasures, limit: int) -> HtmlTable:
    limits = sorted({*LENGTH_LIMITS, limit})
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
    languages = data.texts.languages
    total = languages.total()
    frequent = [(name, count) for name, count in languages.most_common(6) if count > total / 100]
    parts = [f"{name} {_percent(count / total)}" for name, count in frequent]
    if others := total - sum(count for _, count in frequent):
        parts.append(f"others {_percent(others / total)}")
    sampled = f" (of {total:,} sampled rows)" if total < len(data.table) else ""
    unknown = f"; unknown tokens {_percent(data.unknown_share)}" if data.tokens else ""
    return f"languages: {', '.join(parts)}{sampled}{unknown}"


def _files(data: DataMeasures) -> str:
    counts = data.pairs_per_file
    if not len(counts):
        return "files: no row has a file_name"
    if counts.min() == counts.max():
        return f"files: {len(counts):,}, with {counts[0]:,} pairs each"
    return (
        f"files: {len(counts):,}, with {counts.min():,} to {counts.max():,} pairs each, "
        f"median {np.median(counts):,.0f}"
    )


def _labels(data: DataMeasures) -> str:
    assert data.table.label is not None
    label = data.table.label[data.used]
    relevant, missing = int((label >= RELEVANT).sum()), int(np.isnan(label).sum())
    return (
        f"labels: {relevant:,} rows with {RELEVANT} or more (relevant answers), "
        f"{len(label) - relevant - missing:,} with less, {missing:,} without a label"
    )


def run_section(data: DataMeasures, run: RunEstimate, trainer: Trainer) -> Section:
    """What a fit with these settings would do, and how long it would take."""
    sizes = data.group_sizes(run.max_files)
    held_out = "a separate validation file"
    if run.held_out is not None:
        held_out = f"{len(run.held_out):,} rows"
    if n_left_out := len(run.not_evaluated):
        held_out += f", {n_left_out:,} of them not evaluated"
    devices = f" on each of {run.devices} devices" if run.devices > 1 else ""
    rows = [
        ["trained on", f"{len(run.train):,} rows"],
        [
            "held out",
            f"{held_out}: {run.questions:,} questions, searched in {run.corpus:,} answers",
        ],
        [
            "groups",
            f"{len(sizes):,}, of rows that share a file, a question or an answer; the largest has "
            f"{_percent(sizes.max() / sizes.sum())} of the rows",
        ],
        *(
            [
                f"shared {text.kind}s",
                f"{text}: what more than {text.max_files} files share ties no rows",
            ]
            for text in run.shared
        ),
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


def advice_section(advice: Sequence[str], can_train: bool) -> Section:
    """Lines of advice, and the command to train if the file can be used."""
    blocks: list[Block] = [HtmlText(f"- {line}") for line in advice]
    if can_train:
        blocks.append(HtmlText("To train, give the same flags to: python -m embedft fit", "good"))
    return Section("Advice", blocks)


def examples_section(data: DataMeasures) -> Section:
    """The first rows of each issue, with their texts."""
    examples = [
        (issue.name, line)
        for issue in data.issues.values()
        for lines in issue.lines
        for line in lines
    ]
    if not examples:
        return Section("Examples")
    wanted = {line for _, line in examples}
    path = data.table.path
    records = {
        record.line: record
        for record in stream_records(path, ReadCounts(path))
        if record.line in wanted
    }
    rows = [
        [
            f"{name}: line {line}",
            one_line(records[line].question, _MAX_TEXT),
            one_line(records[line].answer, _MAX_TEXT),
        ]
        for name, line in examples
    ]
    return Section("Examples", [HtmlTable(["examples", "question", "answer"], rows)])


def duration(seconds: float) -> str:
    """A time with about two digits, in the unit that fits."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _percent(share: float) -> str:
    return f"{share:.1%}"
