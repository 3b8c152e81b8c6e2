from __future__ import annotations

import pytest

from embedft.training.auto import choose_epochs, choose_rate
from embedft.training.trainer import EmbedftTrainer


@pytest.mark.parametrize(("pairs", "epochs", "rate"), [(9_999, 3, 1e-4), (10_000, 2, 1.25e-4)])
def test_epochs_and_rate_by_the_size_of_the_set(
    pairs: int, epochs: int, rate: float, caplog: pytest.LogCaptureFixture
) -> None:
    auto, given = (EmbedftTrainer(max_epochs=value, logger=False) for value in ("auto", 7))
    with caplog.at_level("INFO", "embedft.training.auto"):
        for trainer in (auto, given, auto):  # said once
            choose_epochs(trainer, pairs)
    assert (auto.max_epochs, given.max_epochs) == (epochs, 7)
    assert caplog.messages == [f"max_epochs auto: {epochs} for {pairs} training pairs"]
    assert (choose_rate("auto", pairs), choose_rate(3e-5, pairs)) == (rate, 3e-5)
