"""The README of an exported model: what it is, how it was trained, how much better it became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from embedft.evaluation.metrics import shown_in
from embedft.evaluation.verdict import comparison, is_worse, verdict
from embedft.tools.text import file_label

PLACEHOLDER = "path/to/this/folder"
"""What the card's example loads until the model has an id on the hub."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The content of the card of one exported model.

    Attributes:
        base_model: Model that training started from, as the user named it.
        embedding_dim: D.
        max_seq_length: Maximum tokens per text.
        data: Counts of the data.
        hyperparameters: Names and values of the settings.
        base: Evaluation of the base model; None if it was not measured.
        tuned: Evaluation of the exported weights; None if they were not measured.
        forgetting: One sentence on forgetting; empty if it was not measured.
        prompts: Prefixes by name.
        hub_id: The base model's id on the Hugging Face hub; None if it is a folder.
    """

    base_model: str
    embedding_dim: int
    max_seq_length: int
    data: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] | None = None
    tuned: dict[str, Any] | None = None
    forgetting: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    hub_id: str | None = None

    @property
    def title(self) -> str:
        """The heading of the card."""
        return f"{self._short_name}, fine-tuned"

    @property
    def _short_name(self) -> str:
        """The base model's name without the path of its folder, which is private."""
        return file_label(self.base_model)

    def render(self) -> str:
        """The card as Markdown with the hub's metadata block."""
        parts = [
            f"---\n{self._metadata().to_yaml()}\n---",
            f"# {self.title}",
            self._introduction(),
            self._verdict(),
            self.forgetting,
            "## Use",
            self._use(),
            *self._quality(),
            *_list("Data", self.data),
            *_list("Hyperparameters", self.hyperparameters),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _introduction(self) -> str:
        return (
            f"A [sentence-transformers](https://www.sbert.net) model that maps texts to "
            f"{self.embedding_dim} dimensions, fine-tuned from "
            f"`{self.hub_id or self._short_name}` on question/answer pairs with embedft. It reads "
            f"up to {self.max_seq_length} tokens per text."
        )

    def _verdict(self) -> str:
        sentence = verdict(self.base, self.tuned)
        return f"> **{sentence}**" if is_worse(self.base, self.tuned) else sentence

    def _use(self) -> str:
        text = f"""```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{PLACEHOLDER}")
questions = model.encode(["What limits the cycle life of silicon anodes?"])
passages = model.encode(["Silicon swells by about 300% on lithiation and breaks."])
print(model.similarity(questions, passages))
```"""
        if any(self.prompts.values()):
            text += (
                "\n\nThe model was trained with prompts: use `model.encode_query` for questions "
                "and `model.encode_document` for passages."
            )
        return text

    def _quality(self) -> list[str]:
        if self.tuned is None:
            return []
        return [
            "## Retrieval quality",
            "Held-out questions, searched in all distinct answers of the data set, at step "
            f"{self.tuned['step']}.",
            comparison({"base": self.base, "tuned": self.tuned}),
        ]

    def _metadata(self) -> ModelCardData:
        """The hub's metadata, without a license: it depends on the data, so the user adds it."""
        tuned = self.tuned or {}
        results = [
            EvalResult(
                task_type="information-retrieval",
                task_name="Information Retrieval",
                dataset_type="unknown",
                dataset_name="held-out questions",
                metric_type=f"cosine_{metric}",
                metric_name=f"Cosine {metric.capitalize()}",
                metric_value=round(tuned[metric], 4),
            )
            for metric in shown_in(tuned)
        ]
        return ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag="sentence-similarity",
            base_model=self.hub_id,
            tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "embedft"],
            model_name=self.title if results else None,
            eval_results=results or None,
        )


def with_model_id(card: str, model_id: str) -> str:
    """A rendered card whose example loads the model by its id on the hub."""
    return card.replace(f'"{PLACEHOLDER}"', f'"{model_id}"')


def _list(title: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    return [f"## {title}", "\n".join(f"- {name}: {value}" for name, value in values.items())]
