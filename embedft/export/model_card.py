"""The README of an exported model: what it is, how it was made, how much better it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from embedft.evaluation.verdict import SHOWN, comparison, is_worse, verdict

FOLDER = "path/to/this/folder"  # what the card loads until the model has an id on the hub


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the card of one exported model says.

    Attributes:
        base_model: What training started from, as the user called it.
        hub_id: The same on the Hugging Face hub; None where it is a folder.
        data: Counts of the data report.
        hyperparameters: Name and value of what was set.
        base: Evaluation of the base model; None where it was not measured.
        tuned: Evaluation of the exported weights; None where they were not measured.
        forgetting: What they have forgotten, in words; empty where that was not measured.
        embedding_dim: D.
        max_seq_length: Tokens a text.
        prompts: Prefixes by name.
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

    def render(self) -> str:
        """The card as Markdown with the hub's metadata block."""
        short = self.base_model.rstrip("/").rsplit("/", 1)[
            -1
        ]  # a folder's path is nobody's business
        title = f"{short}, fine-tuned"
        parts = [
            f"---\n{self._metadata(title).to_yaml()}\n---",
            f"# {title}",
            f"A [sentence-transformers](https://www.sbert.net) model that maps texts to "
            f"{self.embedding_dim} dimensions, fine-tuned from `{self.hub_id or short}` on "
            f"question/answer pairs with embedft. It reads up to {self.max_seq_length} tokens a "
            "text.",
        ]
        sentence = verdict(self.base, self.tuned)
        if sentence:
            parts.append(f"> **{sentence}**" if is_worse(self.base, self.tuned) else sentence)
        if self.forgetting:
            parts.append(self.forgetting)
        parts += ["## Use", _use(self.prompts)]
        if self.tuned is not None:
            parts += [
                "## Retrieval quality",
                "Held-out questions against all distinct answers of the set; step "
                f"{self.tuned['step']}.",
                comparison({"base": self.base, "tuned": self.tuned}),
            ]
        if self.data:
            parts += ["## Data", _list(self.data)]
        if self.hyperparameters:
            parts += ["## Hyperparameters", _list(self.hyperparameters)]
        return "\n\n".join(parts) + "\n"

    def _metadata(self, title: str) -> ModelCardData:
        """What the hub reads; the licence, which depends on the data too, is the user's to add."""
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
            for tuned in ([self.tuned] if self.tuned is not None else [])
            for metric in SHOWN
        ]
        return ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag="sentence-similarity",
            base_model=self.hub_id,
            tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "embedft"],
            model_name=title if results else None,
            eval_results=results or None,
        )


def _use(prompts: dict[str, str]) -> str:
    text = f"""```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{FOLDER}")
questions = model.encode(["What limits the cycle life of silicon anodes?"])
passages = model.encode(["Silicon swells by about 300% on lithiation and breaks."])
print(model.similarity(questions, passages))
```"""
    if any(prompts.values()):
        text += (
            "\n\nThe model was trained with prompts: use `model.encode_query` for questions and "
            "`model.encode_document` for passages."
        )
    return text


def _list(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())
