"""Fine-tune sentence-embedding models on question/answer pairs from your own documents.

Importing this package is light: torch is imported only when a public name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedft._version import __version__

_HOMES = {
    "ContrastiveLoss": "embedft.losses",
    "CosineSimilarityLoss": "embedft.losses",
    "EmbeddingDataModule": "embedft.data.datamodule",
    "EmbeddingModule": "embedft.training.module",
    "Encoder": "embedft.encoder.encoder",
    "FitResult": "embedft.api",
    "Hit": "embedft.inference.search_index",
    "InputError": "embedft.errors",
    "MultipleNegativesRankingLoss": "embedft.losses",
    "OnlineContrastiveLoss": "embedft.losses",
    "SearchIndex": "embedft.inference.search_index",
    "evaluate": "embedft.api",
    "export_checkpoint": "embedft.export.sentence_transformers",
    "fit": "embedft.api",
    "main": "embedft.cli.main",
    "search": "embedft.api",
}

__all__ = ["__version__", *sorted(_HOMES)]

if TYPE_CHECKING:
    from embedft.api import FitResult as FitResult
    from embedft.api import evaluate as evaluate
    from embedft.api import fit as fit
    from embedft.api import search as search
    from embedft.cli.main import main as main
    from embedft.data.datamodule import EmbeddingDataModule as EmbeddingDataModule
    from embedft.encoder.encoder import Encoder as Encoder
    from embedft.errors import InputError as InputError
    from embedft.export.sentence_transformers import export_checkpoint as export_checkpoint
    from embedft.inference.search_index import Hit as Hit
    from embedft.inference.search_index import SearchIndex as SearchIndex
    from embedft.losses import ContrastiveLoss as ContrastiveLoss
    from embedft.losses import CosineSimilarityLoss as CosineSimilarityLoss
    from embedft.losses import MultipleNegativesRankingLoss as MultipleNegativesRankingLoss
    from embedft.losses import OnlineContrastiveLoss as OnlineContrastiveLoss
    from embedft.training.module import EmbeddingModule as EmbeddingModule


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'embedft' has no attribute {name!r}")
