"""Backbone, pooling and normalisation: packed token ids in, embeddings out.

Shape suffixes: T tokens of a packed batch, B texts, L tokens of the longest of a group,
D embedding.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from embedft.encoder.base_model import BaseModel, find_base_model
from embedft.encoder.pooling import Pooling, pool
from embedft.errors import InputError

log = logging.getLogger(__name__)

# A group of texts that are padded together holds none shorter than this share of its longest.
_SHORTEST_OF_GROUP = 0.75


class Encoder(nn.Module):
    """A Hugging Face encoder without its pooler, with pooling and normalisation of its own.

    Args:
        base_model: Folder, hub id, or an id whose weights an installed package ships.
        pooling: ``mean`` or ``cls``; None takes what the base model's folder says, else ``mean``.
        normalize: Scale embeddings to length 1; None takes what the folder says, else False.
        max_seq_length: Tokens a text at most, special tokens included; None takes what the folder
            says, else the most that the backbone's positions allow.

    Raises:
        InputError: The model can't be found, loaded or used so.
    """

    def __init__(
        self,
        base_model: str,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        max_seq_length: int | None = None,
    ) -> None:
        super().__init__()
        self.base = find_base_model(base_model)
        self.pooling = pooling or self.base.pooling
        self.normalize = self.base.normalize if normalize is None else normalize
        self.tokenizer = _load_tokenizer(self.base)
        self.backbone = _load_backbone(self.base)
        self.max_seq_length = _max_seq_length(self.base, self.tokenizer, max_seq_length)
        # Unused by our pooling, so not part of the trained model; kept for the export alone.
        self.base_pooler = (getattr(self.backbone, "pooler", None),)
        if self.base_pooler[0] is not None:
            self.backbone.register_module("pooler", None)
        log.info(
            "encoder %s: %.1f M parameters, %d dimensions, up to %d tokens a text, %s pooling, %s",
            base_model,
            sum(parameter.numel() for parameter in self.parameters()) / 1e6,
            self.embedding_dim,
            self.max_seq_length,
            self.pooling,
            "length 1" if self.normalize else "any length",
        )

    @property
    def embedding_dim(self) -> int:
        """D, the length of an embedding."""
        return int(self.base.config.hidden_size)

    def query_text(self, text: str) -> str:
        """A question as the tokenizer gets it: with the ``query`` prompt, if the model has one."""
        return self._text(text, "query")

    def document_text(self, text: str) -> str:
        """A passage as the tokenizer gets it: with the model's prompt for documents, if any."""
        return self._text(text, "document", "passage", "corpus")

    def _text(self, text: str, *prompt_names: str) -> str:
        names = [*prompt_names, self.base.default_prompt_name]
        prompts = [self.base.prompts[name] for name in names if name in self.base.prompts]
        text = (prompts[0] if prompts else "") + text
        return text.lower() if self.base.do_lower_case else text

    def forward(self, input_ids_T: Tensor, lengths_B: Tensor) -> Tensor:
        """Embeds packed texts.

        Args:
            input_ids_T: (T,) int64, the texts' ids one after the other.
            lengths_B: (B,) int64, tokens a text, each at least 1; their sum is T.

        Returns:
            (B, D) embeddings, float32 or better.
        """
        order_B = torch.argsort(lengths_B, descending=True, stable=True)
        starts_B = (lengths_B.cumsum(0) - lengths_B)[order_B]
        sorted_B = lengths_B[order_B]
        embeddings_BD = torch.cat(
            [
                self._embed_padded(input_ids_T, starts_B[first:last], sorted_B[first:last])
                for first, last in _groups(sorted_B.tolist())
            ]
        )
        embeddings_BD = embeddings_BD[torch.argsort(order_B)]
        return nn.functional.normalize(embeddings_BD, dim=-1) if self.normalize else embeddings_BD

    def _embed_padded(self, input_ids_T: Tensor, starts_B: Tensor, lengths_B: Tensor) -> Tensor:
        places_L = torch.arange(int(lengths_B[0]), device=input_ids_T.device)
        mask_BL = places_L < lengths_B.unsqueeze(1)
        places_BL = (starts_B.unsqueeze(1) + places_L).clamp(max=len(input_ids_T) - 1)
        pad = self.tokenizer.pad_token_id
        ids_BL = torch.where(mask_BL, input_ids_T[places_BL], pad)
        output = self.backbone(input_ids=ids_BL, attention_mask=mask_BL.long())
        return pool(output.last_hidden_state, mask_BL, self.pooling)


def _groups(lengths: list[int]) -> list[tuple[int, int]]:
    """Cuts descending lengths into runs of like length: (first, end) each."""
    groups = []
    first = 0
    for place, length in enumerate(lengths):
        if length < _SHORTEST_OF_GROUP * lengths[first]:
            groups.append((first, place))
            first = place
    groups.append((first, len(lengths)))
    return groups


def _load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # many kinds, from json to Rust; all mean the same to the user
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"base_model {base.name}: its tokenizer can't be loaded: {reason}"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(f"base_model {base.name}: has no fast tokenizer (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        raise InputError(f"base_model {base.name}: its tokenizer has no padding token")
    return tokenizer


def _load_backbone(base: BaseModel) -> PreTrainedModel:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)  # what it would report is checked below
    try:
        backbone, info = AutoModel.from_pretrained(
            base.folder,
            config=base.config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # missing or broken files, shapes, unknown architectures
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"base_model {base.name}: its weights can't be loaded: {reason}") from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(
            f"base_model {base.name}: {len(missing)} weights are missing in its file, "
            f"the first is {missing[0]}"
        )
    if getattr(base.config, "is_encoder_decoder", False):
        raise InputError(f"base_model {base.name}: is an encoder-decoder, not an encoder")
    backbone.train()
    return backbone  # type: ignore[no-any-return]


def _max_seq_length(base: BaseModel, tokenizer: PreTrainedTokenizerBase, asked: int | None) -> int:
    limit = _positions(base.config)
    if asked is None:
        known = [base.max_seq_length, tokenizer.model_max_length, limit]
        return min(length for length in known if length is not None)
    least = tokenizer.num_special_tokens_to_add() + 1
    if asked < least:
        raise InputError(f"max_seq_length: is {asked}, must be at least {least}")
    if limit is not None and asked > limit:
        raise InputError(
            f"max_seq_length: is {asked}, but {base.name} has positions for {limit} tokens"
        )
    return asked


def _positions(config: PretrainedConfig) -> int | None:
    """The longest text that the backbone has positions for."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in {
        "roberta",
        "xlm-roberta",
        "mpnet",
        "camembert",
    }:
        positions -= config.pad_token_id + 1  # their positions start after the padding id
    return positions
