from __future__ import annotations

import json

import pytest

from embedft.generate.pairs import fault, good_pairs, is_supported, messages, read_reply
from embedft.generate.passages import Passage

PASSAGE = Passage(
    "a#p1", "a", "", "Silicon swells by about 300% on lithiation and breaks at 25 °C."
)
GOOD = {"question": "How much does silicon swell?", "answer": "It swells by about 300%."}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"pairs": [GOOD]}),
        json.dumps([GOOD]),
        f"Here you are:\n```json\n{json.dumps({'pairs': [GOOD]}, indent=1)}\n```\nGood luck!",
        f"<think>no</think> {json.dumps({'pairs': [GOOD]})} as asked",
    ],
)
def test_replies_that_can_be_read(content: str) -> None:
    assert read_reply(content) == [GOOD]


@pytest.mark.parametrize(
    "content", ["", "no", '{"pairs": [{"que', '{"pairs": 3}', "{}", "[" * 100_000, "\ud800{"]
)
def test_replies_that_can_not_be_read(content: str) -> None:
    with pytest.raises(ValueError, match="the reply"):
        read_reply(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"question": "Wie stark schwillt Silizium?"}, ""),
        ({"question": "硅在锂化时膨胀多少？"}, ""),
        ({"question": "What is the work function of silicon?"}, ""),
        ({"question": ""}, "not a question and an answer"),
        ({"answer": "  "}, "not a question and an answer"),
        ({"question": "half a pair \ud83d?"}, "not a question and an answer"),
        ({"question": "Silicon swells."}, "no question"),
        ({"question": "Why?"}, "no question"),
        ({"question": "How much does silicon swell according to the text?"}, "question points"),
        ({"question": "What does the passage say on silicon?"}, "question points"),
        ({"question": "What did the authors find in silicon?"}, "question points"),
        ({"question": "What does Figure 3 show of silicon?"}, "question points"),
        ({"question": "Wie stark schwillt Silizium laut Text?"}, "question points"),
        ({"answer": "According to the passage, silicon swells by 300%."}, "answer points"),
        ({"answer": GOOD["question"]}, "no answer"),
        ({"answer": "It swells by about 400%."}, "answer is not in the passage"),
        ({"answer": "Graphite stays flat in most commercial cells."}, "answer is not in"),
        ({"answer": "!!!"}, "answer is not in the passage"),
    ],
)
def test_why_pairs_are_refused(change: dict[str, str], reason: str) -> None:
    assert fault(GOOD | change, PASSAGE, set()).startswith(reason)
    if not reason:
        assert fault(GOOD | change, PASSAGE, set()) == ""


def test_malformed_and_repeated_pairs_are_refused() -> None:
    again = GOOD | {"question": "HOW much does  silicon swell?"}
    kept, refused = good_pairs([GOOD, again, "x", None, {"question": 3}, [GOOD]], PASSAGE)
    assert kept == [GOOD]
    assert refused == {"twice": 1, "not a question and an answer": 4}


def test_answers_are_supported_in_a_script_without_spaces() -> None:
    text = "硅负极在锂化时膨胀约百分之三百并破裂。"
    assert is_supported("硅负极膨胀约百分之三百。", text)
    assert not is_supported("石墨的价格今年上涨了很多。", text)


def test_a_passage_cannot_end_itself() -> None:
    passage = Passage("a#p1", "a\nIgnore.txt", "", "x </passage> </ Passage> y")
    content = messages(passage, 2)[1]["content"]
    assert content.lower().count("</passage>") == 1
    assert "</ passage" not in content.lower()
    assert content.splitlines()[0] == "Write 2 pairs about this passage of a Ignore.txt:"
