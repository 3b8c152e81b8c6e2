from __future__ import annotations

import numpy as np
import pytest
import torch

from embedft.inference import hard_negatives


def test_the_search_is_that_of_a_loop_over_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any block size; own groups and documents above the margin are excluded, -1 is none."""
    torch.manual_seed(0)
    anchors, documents = torch.randn(50, 8), torch.randn(30, 8)
    positive = np.arange(50) % 30
    group = np.arange(30) % 4
    settings = {"count": 30, "relative_margin": 0.1}

    def run() -> tuple[np.ndarray, np.ndarray]:
        return hard_negatives.find_hard_negatives(
            anchors,
            documents,
            positive,
            [hard_negatives.Tied.of(group[positive], group, np.arange(30))],
            **settings,  # type: ignore[arg-type]
        )

    whole, scores = run()
    monkeypatch.setattr(hard_negatives, "BLOCK", 7)
    np.testing.assert_array_equal(run()[0], whole)
    cosine = torch.nn.functional.cosine_similarity(anchors[:, None], documents[None], dim=-1)
    for row in range(50):
        positive_score = float(cosine[row, positive[row]])
        allowed = [
            other
            for other in range(30)
            if group[other] != group[positive[row]]
            and float(cosine[row, other]) <= positive_score - 0.1 * abs(positive_score)
        ]
        allowed.sort(key=lambda other: -float(cosine[row, other]))
        found = whole[row][whole[row] >= 0]
        assert found.tolist() == allowed
        assert np.isnan(scores[row]).sum() == 30 - len(allowed)


@pytest.mark.parametrize(("relative_margin", "expected"), [(0.0, [1, 2]), (0.2, [2, -1])])
def test_the_margin_is_relative_to_the_positive(
    relative_margin: float, expected: list[int]
) -> None:
    """Cosines to the anchor: 0.8 of the positive, 0.7 and 0.1 of the others."""
    cosines = torch.tensor([0.8, 0.7, 0.1])
    documents = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)
    found, scores = hard_negatives.find_hard_negatives(
        torch.tensor([[2.0, 0.0]]),
        3 * documents,  # lengths do not matter
        np.array([0]),
        [],
        count=2,
        relative_margin=relative_margin,
    )
    assert found.tolist() == [expected]
    np.testing.assert_allclose(
        scores[0], [float(cosines[i]) if i >= 0 else np.nan for i in expected], rtol=1e-6
    )


def test_a_text_that_several_rows_have_is_one_document() -> None:
    """Rows 1 and 3 have the same positive; row 1 represents it."""
    positives = torch.eye(4)[[0, 1, 2, 1]]
    anchors = torch.tensor([[1.0, 0.5, 0.4, 0.0], [0.5, 0.4, 1.0, 0.0]])
    rows = np.array([0, 2])
    negatives, scores = hard_negatives.find_pair_negatives(
        rows,
        anchors,
        lambda wanted: positives[wanted],
        np.array([0, 1, 2, 1]),
        [np.full(4, -1)],
        count=3,
        relative_margin=0.05,
    )
    assert negatives.tolist() == [[1, 2, -1], [0, 1, -1]]
    assert np.isnan(scores[:, 2]).all()


def test_answers_of_the_rows_file_and_question_are_excluded_but_no_others() -> None:
    """Row 0 shares its question with row 1 and its file with row 2; row 3 only shares theirs."""
    torch.manual_seed(0)
    vectors = torch.randn(5, 64)
    negatives, _ = hard_negatives.find_pair_negatives(
        np.arange(5),
        vectors,
        lambda rows: vectors[rows],
        np.arange(5),
        [np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, -1])],
        count=5,
        relative_margin=0.0,
    )
    found = [sorted(row[row >= 0].tolist()) for row in negatives]
    assert found == [[3, 4], [2, 4], [1, 4], [0, 4], [0, 1, 2, 3]]


@pytest.mark.parametrize(("n_with", "warns"), [(9, True), (10, False)])
def test_few_negatives_are_a_problem(n_with: int, warns: bool) -> None:
    assert ("only 9 of 100 rows" in hard_negatives.few_negatives_problem(n_with, 100)) == warns
