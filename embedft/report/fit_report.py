"""The report of a fit or a test: its sections, in order, are :data:`SECTIONS`.

A section is a function of the report's data; a section without blocks is left out of the page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from embedft._version import __version__
from embedft.evaluation.metrics import LABELS, NAMES, PRIMARY, shown_in
from embedft.evaluation.significance import mean_intervals
from embedft.evaluation.similarity import pair_similarities, separation, two_dimensions
from embedft.evaluation.verdict import is_significantly_better, verdict
from embedft.report import charts
from embedft.report.by_question import by_file
from embedft.report.examples import MAX_TEXT, most_improved, most_worsened
from embedft.report.page import Block, HtmlTable, HtmlText, Section, image, write_page
from embedft.report.run_data import BASE, TUNED, ReportData
from embedft.tools.text import one_line

BUCKETS = {"1": 1, "2-3": 3, "4-10": 10, "11-100": 100, "> 100": None}
"""Ranges of ranks that are counted together, and the last rank of each."""
MAP_PAIRS = 120
"""Questions on a map: more would hide each other."""
MAX_FILES = 10
"""Most worsened files that are listed, and as many most improved ones."""


def write_report(path: Path, title: str, data: ReportData) -> None:
    """Writes the page."""
    write_page(path, title, [section(data) for section in SECTIONS])


def _verdict(data: ReportData) -> Section:
    """The verdict in words, and all metrics as a chart and a table."""
    blocks: list[Block] = []
    if sentence := verdict(data.base, data.tuned):
        kind = "good" if is_significantly_better(data.base, data.tuned) else "warning"
        blocks.append(HtmlText(sentence, kind))
    elif data.tuned is None:
        blocks.append(HtmlText("Only one model was measured, so there is no comparison."))
    else:
        text = "The base model was not measured, so the gain is unknown."
        blocks.append(HtmlText(text, "warning"))
    if data.forgetting:
        kind = "warning" if "FORGOTTEN" in data.forgetting else "good"
        blocks.append(HtmlText(data.forgetting, kind))

    metrics = shown_in(*data.evaluations.values())
    labels = [LABELS[name] for name in metrics]
    columns = [NAMES.index(name) for name in metrics]
    values = {name: results.values[:, columns].numpy() for name, results in data.results.items()}
    gains = mean_intervals(values[TUNED] - values[BASE], data.groups) if len(values) == 2 else []
    if values:
        means = {name: mean_intervals(of_model, data.groups) for name, of_model in values.items()}
        caption = (
            f"Retrieval quality on {len(data.rows)} held-out questions. Whiskers and lines are 95% "
            "intervals; questions that share a file or an answer count as one observation. If the "
            "line of a difference does not cross 0, the difference is significant."
        )
        blocks.append(image(charts.bars(labels, means, gains), caption))

    head = ["metric", *data.evaluations]
    rows = [
        [label, *(f"{evaluation[name]:.4f}" for evaluation in data.evaluations.values())]
        for name, label in zip(metrics, labels, strict=True)
    ]
    if gains:
        head += ["difference", "95% interval"]
        for row, gain in zip(rows, gains, strict=True):
            row += [f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"]
    blocks.append(HtmlTable(head, rows, _weights_in_words(data)))
    return Section("Verdict", blocks)


def _weights_in_words(data: ReportData) -> str:
    """Which weights the tuned model has."""
    if data.tuned is None:
        return ""
    share = data.tuned.get("base_share")
    mean = f", averaged {1 - share:.0%} to {share:.0%} with the base model's" if share else ""
    return f"tuned model: the weights of step {data.tuned['step']}{mean}"


CURVES = {
    "loss": {"training": "train/loss", "held out": "val/loss"},
    "held-out quality": {LABELS[name]: f"val/{name}" for name in (PRIMARY, "mrr@10", "recall@10")},
    "learning rate": {"rate": "train/learning_rate"},
    "norm of the gradient, before clipping": {"norm": "train/grad_norm"},
}
"""Titles of the panels, then the name and the key in the log of each of their curves."""


def _training(data: ReportData) -> Section:
    """The curves that were logged."""
    panels: dict[str, dict[str, charts.Points]] = {}
    for title, keys in CURVES.items():
        lines: dict[str, charts.Points] = {
            name: [(line["step"], line[key]) for line in data.log if key in line]
            for name, key in keys.items()
        }
        if logged := {name: points for name, points in lines.items() if points}:
            panels[title] = logged
    if not panels:
        return Section("Training")
    best_step = data.tuned["step"] if data.tuned is not None else None
    caption = (
        "Step 0 is the base model; the dotted line marks the step of the best weights. If the "
        "held-out loss rises while the training loss falls, the run is too long or the learning "
        "rate too high; the best weights are kept."
    )
    return Section("Training", [image(charts.curves(panels, best_step), caption)])


def _ranks(data: ReportData) -> Section:
    """How the ranks of the relevant answers changed."""
    change, base, tuned = data.change, data.base_results, data.tuned_results
    if change is None or base is None or tuned is None:
        return Section("Ranks")
    before, after = base.ranks.numpy(), tuned.ranks.numpy()
    up, down = int((change > 0).sum()), int((change < 0).sum())
    first, ten = ([int((ranks <= k).sum()) for ranks in (before, after)] for k in (1, 10))
    text = HtmlText(
        f"Of {len(change)} questions, {up} rank their relevant answer higher than before, {down} "
        f"lower, {len(change) - up - down} at the same rank. Relevant answer at rank 1: {first[0]} "
        f"before, {first[1]} after; in the top 10: {ten[0]} before, {ten[1]} after."
    )
    last_ranks = [last for last in BUCKETS.values() if last is not None]
    counts = np.zeros((len(BUCKETS), len(BUCKETS)), dtype=np.int64)
    buckets = np.searchsorted(last_ranks, before), np.searchsorted(last_ranks, after)
    np.add.at(counts, buckets, 1)
    caption = (
        "Questions by the rank of their best relevant answer, before (rows) and after (columns). "
        "Green cells hold questions that moved up, orange cells those that moved down."
    )
    return Section("Ranks", [text, image(charts.rank_table(counts, list(BUCKETS)), caption)])


def _similarities(data: ReportData) -> Section:
    """How well cosine similarity separates relevant pairs from others."""
    models, rows = {}, []
    for name, results in data.results.items():
        relevant, other = pair_similarities(results, data.relevant)
        if not len(other):
            return Section("Similarities")
        models[name] = relevant, other
        means = [f"{pairs.mean():.3f}" for pairs in (relevant, other)]
        rows.append([name, *means, f"{separation(relevant, other):.1%}"])
    if not models:
        return Section("Similarities")
    caption = (
        f"Cosine similarities of {len(relevant)} held-out questions with a relevant answer, and "
        "with the answers of each other's questions. The less the two overlap, the better a search "
        "can tell them apart."
    )
    head = [
        "mean similarity",
        "relevant pairs",
        "other pairs",
        "the relevant pair is more similar in",
    ]
    return Section(
        "Similarities", [image(charts.similarities(models), caption), HtmlTable(head, rows)]
    )


def _map(data: ReportData) -> Section:
    """Questions and answers in two dimensions."""
    results = list(data.results.values())
    if not results:
        return Section("Map")
    sample = results[0].sample.numpy()
    chosen = np.unique(np.linspace(0, len(sample) - 1, MAP_PAIRS).round().astype(np.int64))
    if len(chosen) < 2:
        return Section("Map")
    parts, share = two_dimensions(
        [
            embeddings[chosen]
            for of_model in results
            for embeddings in (of_model.question_embeddings, of_model.answer_embeddings)
        ]
    )
    models = dict(zip(data.results, zip(parts[::2], parts[1::2], strict=True), strict=True))
    change = data.change
    signs = np.zeros(len(chosen)) if change is None else np.sign(change[sample[chosen]])
    caption = (
        f"{len(chosen)} held-out questions (dots), each joined to a relevant answer (square), by "
        "the first two principal components of all embeddings shown, the same for both models. "
        f"They hold {share:.0%} of the variance: texts that are near each other here may be far "
        "apart in the other dimensions."
    )
    return Section("Map", [image(charts.pair_map(models, signs.astype(np.int64)), caption)])


def _files(data: ReportData) -> Section:
    """The files whose nDCG@10 changed most."""
    base, tuned = data.base_results, data.tuned_results
    if base is None or tuned is None:
        return Section("By file")
    files = by_file(data.rows, {BASE: base.ndcg, TUNED: tuned.ndcg})
    if len(files) < 2:
        return Section("By file")
    gains = {
        name: of_file[PRIMARY][TUNED] - of_file[PRIMARY][BASE] for name, of_file in files.items()
    }
    names = sorted(files, key=lambda name: (gains[name], name))
    left_out = max(0, len(names) - 2 * MAX_FILES)
    if left_out:
        names = names[:MAX_FILES] + names[-MAX_FILES:]
    rows = [
        [
            one_line(name, MAX_TEXT),
            str(files[name]["questions"]),
            *(f"{files[name][PRIMARY][model]:.4f}" for model in (BASE, TUNED)),
            f"{gains[name]:+.4f}",
        ]
        for name in names
    ]
    caption = f"{LABELS[PRIMARY]} of the questions of each file, the most worsened file first"
    if left_out:
        caption += f"; {left_out} files between them are left out"
    return Section(
        "By file", [HtmlTable(["file", "questions", BASE, TUNED, "difference"], rows, caption)]
    )


def _facts(data: ReportData) -> Section:
    """The data and the settings of the run."""
    blocks: list[Block] = [
        HtmlTable([name, "value"], [[key, _value(value)] for key, value in facts.items()])
        for name, facts in (("data", data.facts), ("setting", data.settings))
        if facts
    ]
    return Section("Data and settings", [*blocks, HtmlText(f"Made by embedft {__version__}.")])


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


SECTIONS: tuple[Callable[[ReportData], Section], ...] = (
    _verdict,
    _training,
    _ranks,
    _similarities,
    _map,
    most_improved,
    most_worsened,
    _files,
    _facts,
)
"""The sections of the page, from top to bottom."""
