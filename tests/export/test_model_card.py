from __future__ import annotations

from typing import Any

import huggingface_hub
from huggingface_hub.repocard_data import model_index_to_eval_results

from embedft.evaluation.metrics import SHOWN
from embedft.export.model_card import ModelCard, with_model_id

EVALUATION = dict.fromkeys(SHOWN, 0.51239) | {"step": 3}


def data_of(text: str) -> Any:
    """The metadata of a card, as the hub's library reads it."""
    return huggingface_hub.ModelCard(text).data


def test_card_metadata_is_what_the_hub_reads() -> None:
    card = ModelCard("all-MiniLM-L6-v2", 384, 256, base=EVALUATION, tuned=EVALUATION, hub_id="a/b")
    data = data_of(card.render())
    assert data.library_name == "sentence-transformers"
    assert data.pipeline_tag == "sentence-similarity"
    assert data.base_model == "a/b"
    assert {"sentence-transformers", "feature-extraction", "embedft"} <= set(data.tags or [])
    assert data.license is None
    assert data.datasets is None
    results = data.eval_results
    assert results is not None
    assert [result.metric_type for result in results] == [f"cosine_{name}" for name in SHOWN]
    assert {result.metric_value for result in results} == {0.5124}
    name, again = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "all-MiniLM-L6-v2, fine-tuned"
    assert again == results


def test_card_of_an_unmeasured_model_and_of_a_folder() -> None:
    text = ModelCard('/home/me/my: "models"/m\'1\n#x', 384, 256).render()
    data = data_of(text)
    assert data.base_model is None
    assert data.eval_results is None
    assert "/home/me" not in text


def test_card_says_what_was_trained_and_measured() -> None:
    worse = EVALUATION | {"ndcg@10": 0.4}
    card = ModelCard(
        "b", 32, 48, {"rows_read": 9}, {"learning_rate": 2e-5}, EVALUATION, worse, "Forgotten."
    ).render()
    assert "> **The tuned model is WORSE than the base model" in card
    assert "\n\nForgotten.\n\n## Use" in card
    assert "- rows_read: 9" in card
    assert "- learning_rate: 2e-05" in card
    assert card.startswith("---\nlibrary_name: sentence-transformers\n")
    assert "encode_query" not in card


def test_every_metric_is_in_the_table_and_in_the_metadata() -> None:
    card = ModelCard("b", 32, 48, base=EVALUATION, tuned=EVALUATION).render()
    for name in SHOWN:
        assert f"\n| {name} " in card
        assert f"type: cosine_{name}\n" in card


def test_prompts_are_explained() -> None:
    assert "model.encode_query" in ModelCard("b", 32, 48, prompts={"query": "query: "}).render()
    assert "model.encode_query" not in ModelCard("b", 32, 48, prompts={"query": ""}).render()


def test_example_loads_the_model_by_its_id() -> None:
    card = ModelCard("b", 32, 48).render()
    assert 'SentenceTransformer("org/name")' in with_model_id(card, "org/name")
