"""The report of a fit or a test, section by section."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embedft._version import __version__
from embedft.evaluation.bootstrap import Interval, bootstrap
from embedft.evaluation.metrics import NAMES
from embedft.evaluation.similarity import pair_similarities, separation, two_dimensions
from embedft.evaluation.verdict import SHOWN, is_worse, verdict
from embedft.report import charts
from embedft.report.by_question import by_file
from embedft.report.examples import MAX_TEXT, examples
from embedft.report.page import HtmlTable, HtmlText, Section, image, render
from embedft.report.run_data import ReportData
from embedft.tools.files import replacing_file
from embedft.tools.text import one_line

LABELS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "map@100": "MAP@100"}
BUCKETS = {"1": 1, "2-3": 3, "4-10": 10, "11-100": 100, "> 100": None}
"""Ranks that are counted together, and the last of each."""
MAP_PAIRS = 120
"""Questions that a map shows: more would hide each other."""
MAX_FILES = 10
"""Files of each kind that are listed."""


def write_report(path: Path, title: str, data: ReportData) -> None:
    """Writes the page."""
    sections = [
        _verdict(data),
        _training(data),
        _ranks(data),
        _similarities(data),
        _map(data),
        examples("Most improved", data, data.risen),
        examples("Most worsened", data, data.fallen),
        _files(data),
        _facts(data),
    ]
    html = render(title, [section for section in sections if section.blocks])
    with replacing_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _verdict(data: ReportData) -> Section:
    base, tuned, found = data.base, data.tuned, data.found
    sentence = verdict(base, tuned)
    if sentence:
        gain, trained_on = ((tuned or {}).get(name) for name in ("gain", "trained_on"))
        sure = gain is not None and gain["low"] > 0 and not (is_worse(base, tuned) or trained_on)
        blocks = [HtmlText(sentence, "good" if sure else "warning")]
    elif tuned is None:
        blocks = [HtmlText("Only one model was measured: there is nothing to compare it with.")]
    else:
        blocks = [
            HtmlText("The base model was not measured, so there is no gain to tell.", "warning")
        ]
    if data.forgetting:
        blocks.append(
            HtmlText(data.forgetting, "warning" if "FORGOTTEN" in data.forgetting else "good")
        )
    section = Section("Verdict", [*blocks])
    columns = [NAMES.index(name) for name in SHOWN]
    values = {name: of.values[:, columns].numpy() for name, of in found.items()}
    means = {name: bootstrap(of_model) for name, of_model in values.items()}
    gains: list[Interval] = []
    if len(values) == 2:
        gains = bootstrap(values["tuned model"] - values["base model"])
    labels = [LABELS.get(name, name) for name in SHOWN]
    if means:
        figure = charts.bars(labels, means, gains)
        questions = len(data.rows)
        section.blocks.append(
            image(
                figure,
                f"Quality on {questions} questions that were held out. The "
                "whiskers and lines are 95% intervals by a bootstrap over the questions: where "
                "the line of a difference does not cross 0, chance alone hardly makes it.",
            )
        )
    evaluations = {"base model": base, "tuned model": tuned}
    measured = {name: of for name, of in evaluations.items() if of is not None}
    head = ["metric", *measured]
    rows = [
        [label, *(f"{of[name]:.4f}" for of in measured.values())]
        for name, label in zip(SHOWN, labels, strict=True)
    ]
    if gains:
        head += ["difference", "95% interval"]
        for row, gain in zip(rows, gains, strict=True):
            row += [f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"]
    section.blocks.append(HtmlTable(head, rows, _made_of(data)))
    return section


def _made_of(data: ReportData) -> str:
    """Which weights the tuned model's are."""
    if data.tuned is None:
        return ""
    share = data.tuned.get("base_share")
    mixed = f", {1 - share:.0%} of them and {share:.0%} of the base model's" if share else ""
    return f"tuned model: the weights of step {data.tuned['step']}{mixed}"


def _training(data: ReportData) -> Section:
    """The curves, as far as they were logged."""
    panels = {
        "loss": {"training": "train/loss", "held out": "val/loss"},
        "held-out quality": {
            LABELS.get(name, name): f"val/{name}" for name in ("ndcg@10", "mrr@10", "recall@10")
        },
        "learning rate": {"rate": "train/learning_rate"},
        "norm of the gradient, before clipping": {"norm": "train/grad_norm"},
    }
    drawn: dict[str, dict[str, charts.Points]] = {}
    for title, lines in panels.items():
        points: dict[str, charts.Points] = {
            name: [(line["step"], line[key]) for line in data.log if key in line]
            for name, key in lines.items()
        }
        if known := {name: some for name, some in points.items() if some}:
            drawn[title] = known
    section = Section("Training")
    if drawn:
        best = data.tuned["step"] if data.tuned is not None else None
        section.blocks.append(
            image(
                charts.curves(drawn, best),
                "Step 0 is the base model, the dotted line the step of the best weights. Where the "
                "held-out loss rises while the training loss "
                "falls, the run is too long or the rate too high; the best weights are kept.",
            )
        )
    return section


def _ranks(data: ReportData) -> Section:
    section = Section("Ranks")
    if (change := data.change) is None:
        return section
    assert data.before is not None
    assert data.after is not None
    before, after = data.before.ranks.numpy(), data.after.ranks.numpy()
    up, down = int((change > 0).sum()), int((change < 0).sum())
    first, ten = ([int((ranks <= k).sum()) for ranks in (before, after)] for k in (1, 10))
    section.blocks.append(
        HtmlText(
            f"Of {len(change)} questions, {up} find their answer earlier than before, {down} "
            f"later, {len(change) - up - down} at the same rank. Found first: {first[0]} before, "
            f"{first[1]} after; among the first ten: {ten[0]} before, {ten[1]} after."
        )
    )
    edges = [last for last in BUCKETS.values() if last is not None]
    counts = np.zeros((len(BUCKETS), len(BUCKETS)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(edges, before), np.searchsorted(edges, after)), 1)
    section.blocks.append(
        image(
            charts.rank_table(counts, list(BUCKETS)),
            "Questions by the rank of their best right answer, before (rows) and after (columns): "
            "green cells hold questions that moved up, orange ones those that moved down.",
        )
    )
    return section


def _similarities(data: ReportData) -> Section:
    section = Section("Similarities")
    models, rows = {}, []
    for name, found in data.found.items():
        right, wrong = pair_similarities(found, data.relevant)
        if not len(wrong):
            return section
        models[name] = right, wrong
        means = [f"{pairs.mean():.3f}" for pairs in (right, wrong)]
        rows.append([name, *means, f"{separation(right, wrong):.1%}"])
    if models:
        caption = (
            f"Cosine similarities of {len(right)} held-out questions with a right answer of "
            "theirs, and with the answers of each other: the less the two overlap, the better a "
            "search can tell them apart."
        )
        head = [
            "mean similarity",
            "right pairs",
            "wrong pairs",
            "the right pair is more similar in",
        ]
        section.blocks.extend([image(charts.similarities(models), caption), HtmlTable(head, rows)])
    return section


def _map(data: ReportData) -> Section:
    section = Section("Map")
    if not data.found:
        return section
    sample = next(iter(data.found.values())).sample.numpy()
    chosen = np.unique(np.linspace(0, len(sample) - 1, MAP_PAIRS).round().astype(np.int64))
    sides = [
        side[chosen]
        for found in data.found.values()
        for side in (found.question_embeddings, found.answer_embeddings)
    ]
    if len(chosen) < 2:
        return section
    placed, share = two_dimensions(sides)
    models = {
        name: (placed[2 * index], placed[2 * index + 1]) for index, name in enumerate(data.found)
    }
    change = data.change
    signs = np.zeros(len(chosen)) if change is None else np.sign(change[sample[chosen]])
    section.blocks.append(
        image(
            charts.pair_map(models, signs.astype(np.int64)),
            f"{len(chosen)} held-out questions (dots), each joined to its right answer (square), "
            "by the first two principal components of all the embeddings shown, the same for both "
            f"models. They hold {share:.0%} of the variance: what lies near here may be far apart "
            "in the other dimensions.",
        )
    )
    return section


def _files(data: ReportData) -> Section:
    """The files that changed most."""
    section = Section("By file")
    if data.before is None or data.after is None:
        return section
    files = by_file(data.rows, {"base": data.before.ndcg, "tuned": data.after.ndcg})
    if len(files) < 2:
        return section
    rows = [
        (of["ndcg@10"]["tuned"] - of["ndcg@10"]["base"], name, of) for name, of in files.items()
    ]
    rows.sort(key=lambda row: (row[0], row[1]))
    left_out = max(0, len(rows) - 2 * MAX_FILES)
    if left_out:
        rows = rows[:MAX_FILES] + rows[-MAX_FILES:]
    cells = [
        [
            one_line(name, MAX_TEXT),
            str(of["questions"]),
            *(f"{of['ndcg@10'][model]:.4f}" for model in ("base", "tuned")),
            f"{gain:+.4f}",
        ]
        for gain, name, of in rows
    ]
    caption = "nDCG@10 of the questions of each file, the most worsened first"
    if left_out:
        caption += f"; {left_out} files between them are left out"
    head = ["file", "questions", "base model", "tuned model", "difference"]
    section.blocks.append(HtmlTable(head, cells, caption))
    return section


def _facts(data: ReportData) -> Section:
    section = Section("Data and settings")
    for name, facts in (("data", data.data), ("setting", data.settings)):
        if facts:
            rows = [
                [key.replace("_", " ") if name == "data" else key, _value(value)]
                for key, value in facts.items()
            ]
            section.blocks.append(HtmlTable([name, "value"], rows))
    section.blocks.append(HtmlText(f"Made by embedft {__version__}."))
    return section


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
