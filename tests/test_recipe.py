from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedft import EmbeddingDataModule, EmbeddingModule, MultipleNegativesRankingLoss
from embedft.cli.flags import HELP
from embedft.recipe import RULES, Asked, Facts, Recipe, choose, warmup_length
from embedft.training.trainer import EmbedftTrainer

ROOT = Path(__file__).parents[1]
EVERYTHING = Asked(
    max_epochs="auto",
    learning_rate="auto",
    base_share="auto",
    additive_margin="auto",
    label_smoothing="auto",
    topic_batches="auto",
    file_batches="auto",
)
PAPERS = Facts(pairs=1500, several_answers=0.001, share_a_file=0.2)


@pytest.mark.parametrize(("pairs", "epochs", "rate"), [(9_999, 3, 1e-4), (10_000, 2, 1.25e-4)])
def test_a_large_set_takes_fewer_epochs_at_a_higher_rate(
    pairs: int, epochs: int, rate: float
) -> None:
    chosen = choose(EVERYTHING, replace(PAPERS, pairs=pairs))
    assert (chosen.max_epochs, chosen.learning_rate) == (epochs, rate)


@pytest.mark.parametrize(
    ("several", "pairs", "share_a_file", "asked", "topics", "files"),
    [
        (0.001, 1000, 0.0, {}, True, False),
        (0.001, 1000, 0.9, {}, True, False),
        (0.001, 999, 0.9, {}, False, True),
        (0.001, 999, 0.5, {}, False, False),
        (0.002, 5000, 0.51, {}, False, True),
        (0.002, 5000, 0.0, {}, False, False),
        (0.0, 5000, 0.9, {"topic_batches": False}, False, True),
        (0.0, 5000, 0.9, {"file_batches": False}, True, False),
        (0.0, 5000, 0.9, {"file_batches": True}, False, True),
        (0.1, 100, 0.9, {"topic_batches": True}, True, False),
        (0.1, 100, 0.9, {"topic_batches": True, "file_batches": True}, True, True),
    ],
)
def test_batches_by_topic_or_by_file(
    several: float,
    pairs: int,
    share_a_file: float,
    asked: dict[str, Any],
    topics: bool,
    files: bool,
) -> None:
    """Topics in a large set if a question has one answer; else files if most pairs share one."""
    chosen = choose(replace(EVERYTHING, **asked), Facts(pairs, several, share_a_file))
    assert (chosen.topic_batches, chosen.file_batches) == (topics, files)


def test_a_loss_without_in_batch_negatives_takes_batches_at_random() -> None:
    chosen = choose(EVERYTHING, Facts(5000, 0.0, 0.9, needs_labels=True))
    assert (chosen.topic_batches, chosen.file_batches) == (False, False)
    assert chosen.reasons["topic_batches"].endswith("(this loss has no in-batch negatives)")
    asked = replace(EVERYTHING, topic_batches=True)
    assert choose(asked, Facts(5000, 0.0, 0.9, needs_labels=True)).topic_batches  # as asked for


@pytest.mark.parametrize(
    ("several", "by_topic", "share_a_file", "pairs", "margin", "smoothing", "share"),
    [
        (0.0, True, 0.0, 1500, 0.2, 0.1, 0.4),
        (0.0, True, 0.0, 10_000, 0.2, 0.1, 0.4),
        (0.0, True, 1.0, 1500, 0.15, 0, 0.4),
        (0.0, False, 1.0, 1500, 0.15, 0, 0.4),
        (0.0, False, 0.0, 1500, 0.15, 0, 0.4),
        (0.1, True, 1.0, 1500, 0, 0, 0.3),
        (0.1, False, 1.0, 1500, 0, 0, 0.3),
        (0.1, False, 1.0, 10_000, 0, 0, 0.35),
    ],
)
def test_margin_smoothing_and_base_share(
    several: float,
    by_topic: bool,
    share_a_file: float,
    pairs: int,
    margin: float,
    smoothing: float,
    share: float,
) -> None:
    asked = replace(EVERYTHING, topic_batches=by_topic)
    chosen = choose(asked, Facts(pairs, several, share_a_file))
    assert (chosen.additive_margin, chosen.label_smoothing) == (margin, smoothing)
    assert chosen.base_share == share


@pytest.mark.parametrize(("smoothing", "margin"), [(0.05, 0.2), (0.0, 0.15)])
def test_the_margin_follows_a_smoothing_that_was_asked_for(smoothing: float, margin: float) -> None:
    chosen = choose(replace(EVERYTHING, label_smoothing=smoothing), PAPERS)
    assert (chosen.additive_margin, chosen.label_smoothing) == (margin, smoothing)


@pytest.mark.parametrize(
    ("asked", "named", "hard_negatives", "mines"),
    [(True, 0, 1, True), (False, 0, 1, False), (True, 1, 1, False), (True, 0, 0, False)],
)
def test_negatives_are_mined_if_the_file_names_none(
    asked: bool, named: int, hard_negatives: int, mines: bool
) -> None:
    settings = Asked(mine_negatives=asked, hard_negatives=hard_negatives)
    assert choose(settings, replace(PAPERS, pairs_with_negatives=named)).mine_negatives is mines


def test_what_was_asked_for_is_kept_and_has_no_reason() -> None:
    asked = Asked(7, 3e-5, 12, 0.25, 0.3, 0.05, False, True)
    for facts in (PAPERS, Facts(50_000, 0.5, 0.9), Facts(1, needs_labels=True)):
        chosen = choose(asked, facts)
        assert chosen == Recipe(7, 3e-5, 12, 0.25, 0.3, 0.05, False, True, False)
        assert chosen.warmup(1000) == 12


def test_each_auto_has_one_line_with_its_value_and_its_reason() -> None:
    assert [*choose(EVERYTHING, PAPERS).reasons.values()] == [
        "max_epochs auto: 3 (1,500 training pairs)",
        "learning_rate auto: 0.0001 (1,500 training pairs)",
        "topic_batches auto: on (1,500 training pairs, 0.10% of the questions have several answers)",
        "file_batches auto: off (batches are by topic)",
        "label_smoothing auto: 0.1 (0.10% of the questions have several answers, 20% of the pairs "
        "share their file with another pair, batches are by topic)",
        "additive_margin auto: 0.2 (0.10% of the questions have several answers)",
        "base_share auto: 0.4 (0.10% of the questions have several answers)",
    ]


def test_settings_are_what_checkpoints_and_cards_keep() -> None:
    chosen = choose(replace(EVERYTHING, additive_margin=None, label_smoothing=None), PAPERS)
    assert chosen.settings() == {
        "max_epochs": 3,
        "learning_rate": 1e-4,
        "warmup_steps": "auto",
        "base_share": 0.4,
        "topic_batches": True,
        "file_batches": False,
        "mine_negatives": False,
    }


def test_warmup() -> None:
    assert warmup_length("auto", 1000) == 100
    assert warmup_length("auto", 100_000) == 500
    assert warmup_length("auto", 9) == 0
    assert warmup_length(500, 100) == 500


def test_help_texts_and_docstrings_say_what_the_recipe_does() -> None:
    """The numbers stand in recipe.py; elsewhere they are formatted from it, or compared here."""

    def plain(text: str | None) -> str:
        return " ".join((text or "").replace("`", "").split())

    documented = {
        EmbedftTrainer: ["max_epochs"],
        EmbeddingModule: ["learning_rate", "warmup_steps", "base_share"],
        EmbeddingDataModule: ["topic_batches", "file_batches"],
        MultipleNegativesRankingLoss: ["additive_margin", "label_smoothing"],
    }
    for owner, names in documented.items():
        for name in names:
            after = plain(owner.__doc__).partition(f" {name}: ")[2]
            assert f"auto: {RULES[name]}" in after, name
    assert RULES["max_epochs"] in HELP["epochs"]
    assert RULES["learning_rate"] in HELP["learning_rate"]
    assert sorted(name for names in documented.values() for name in names) == sorted(RULES)


@pytest.mark.docs
def test_documentation_repeats_the_rules() -> None:
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8").replace("`", "")
    for name, rule in RULES.items():
        assert f"| {name} | {rule} |" in page, name


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_comments_of_presets_repeat_the_rules(path: Path) -> None:
    """A comment on a setting that is ``auto`` either gives no number or gives the whole rule."""
    comment = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        setting, _, said = line.partition("#")
        comment += f" {said.strip()}"
        name, _, value = setting.strip().partition(": ")
        if name and value.strip() == "auto" and name in RULES and re.search(r"\d", comment):
            assert RULES[name] in comment, name
        comment = "" if name else comment
