"""What ``test`` and ``validate`` print and write; the page is in report/test_fit_report.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from embedft.evaluation.metrics import SHOWN
from embedft.run.evaluate import evaluate_and_report
from embedft.tools.log import RESULT


def test_without_a_page_there_is_one_table(caplog: pytest.LogCaptureFixture) -> None:
    module: Any = SimpleNamespace(last_evaluation=dict.fromkeys(SHOWN, 0.25))
    with caplog.at_level(RESULT, "embedft"):
        evaluate_and_report(None, module, None, 7, {}, None)  # type: ignore[arg-type]
    (said,) = caplog.messages
    assert said.count("| 0.2500 |") == len(SHOWN)
    assert "value" in said
