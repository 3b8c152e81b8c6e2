"""Draws the figures of docs/losses.md with the losses themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from embedft.losses import (
    ContrastiveLoss,
    CosineSimilarityLoss,
    Loss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)

IMAGES = Path(__file__).parents[1] / "docs" / "images"
STYLE: Any = {
    "svg.hashsalt": "embedft",  # the same figure is the same file
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 2,
}
RIGHT, WRONG, THIRD = "#1b7f5c", "#c2452d", "#3b6fb6"
COSINES = torch.linspace(-1, 1, 201)


def at_cosine(cosine: float | Tensor) -> Tensor:
    """A unit-length vector with this cosine to (1, 0)."""
    angle = torch.acos(torch.as_tensor(cosine, dtype=torch.float64).clamp(-1, 1))
    return torch.stack([angle.cos(), angle.sin()])


def of_pair(loss: Loss, cosine: Tensor, label: float) -> float:
    """The loss of one pair."""
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([label], dtype=torch.float64)
    return float(loss(first, at_cosine(cosine)[None], labels))


def figure(name: str, draw: Callable[[Any], None], *, y: str) -> None:
    """Writes one figure: a loss as a function of the cosine of a pair."""
    with mpl.rc_context(STYLE):
        fig = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = fig.add_subplot()
        axes.set_xlabel("cosine similarity of the pair")
        axes.set_ylabel(y)
        draw(axes)
        axes.legend(frameon=False)
        target = IMAGES / f"{name}.svg"
        fig.savefig(target, metadata={"Date": None, "Creator": None})
    lines = target.read_text(encoding="utf-8").splitlines()
    target.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def line(axes: Any, values: Iterable[float], label: str, color: str, **kwargs: Any) -> None:
    """One curve over :data:`COSINES`."""
    axes.plot(COSINES.tolist(), list(values), label=label, color=color, **kwargs)


def ranking(axes: Any) -> None:
    """How strongly a wrong answer is pushed away: its share of the softmax, by scale."""
    right = 0.6
    for scale, color in ((10.0, THIRD), (20.0, WRONG), (40.0, RIGHT)):
        loss = MultipleNegativesRankingLoss(scale)
        anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        values = (loss(anchor, at_cosine(right)[None], at_cosine(c)[None, None]) for c in COSINES)
        # The loss is -log of the right answer's share; the wrong answer has the rest.
        line(axes, (1 - math.exp(-float(value)) for value in values), f"scale {scale:.0f}", color)
    axes.axvline(right, color="grey", linestyle=":")
    axes.annotate(
        "the right answer", (right, 0.9), ha="right", xytext=(-6, 0), textcoords="offset points"
    )


def contrastive(axes: Any) -> None:
    """The two halves of the contrastive loss."""
    loss = ContrastiveLoss(margin=0.5)
    line(axes, (of_pair(loss, cosine, 1.0) for cosine in COSINES), "label 1: pulled", RIGHT)
    line(axes, (of_pair(loss, cosine, 0.0) for cosine in COSINES), "label 0: pushed", WRONG)
    axes.axvline(0.5, color="grey", linestyle=":")
    axes.annotate("1 - margin", (0.5, 1.6), xytext=(6, 0), textcoords="offset points")


def online(axes: Any) -> None:
    """Which pairs of a batch count: those beyond the closest pair of the other class."""
    right = torch.tensor([0.9, 0.75, 0.6, 0.45, 0.3])
    wrong = torch.tensor([0.7, 0.5, 0.35, 0.1, -0.2])
    second = at_cosine(torch.cat([right, wrong])).T
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand_as(second)
    second.requires_grad_()
    labels = torch.cat([torch.ones(len(right)), torch.zeros(len(wrong))])
    OnlineContrastiveLoss(margin=0.75)(first, second, labels).backward()
    assert second.grad is not None
    counts = second.grad.norm(dim=1) > 0
    cosines = second.detach()[:, 0]
    for label, name, color in ((1, "label 1", RIGHT), (0, "label 0", WRONG)):
        for counted, marker in ((True, "o"), (False, "x")):
            chosen = (labels == label) & (counts == counted)
            axes.plot(
                cosines[chosen].tolist(),
                [name] * int(chosen.sum()),
                marker,
                color=color,
                markersize=10,
                markeredgewidth=2,
                label=f"{name}, {'counts' if counted else 'left out'}",
            )
    axes.set_xlim(-0.3, 1)
    axes.margins(y=0.6)
    axes.legend(loc="center left")


def cosine_similarity(axes: Any) -> None:
    """A parabola around each label."""
    loss = CosineSimilarityLoss()
    for label, color in ((0.0, WRONG), (0.5, THIRD), (1.0, RIGHT)):
        line(axes, (of_pair(loss, c, label) for c in COSINES), f"label {label:g}", color)


def main() -> None:
    """Writes all figures into docs/images."""
    figure("loss-ranking", ranking, y="share of a wrong answer")
    figure("loss-contrastive", contrastive, y="loss of the pair")
    figure("loss-online-contrastive", online, y="")
    figure("loss-cosine-similarity", cosine_similarity, y="loss of the pair")


if __name__ == "__main__":
    main()
