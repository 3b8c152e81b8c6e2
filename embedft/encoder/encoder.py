"""Backbone, pooling and normalisation: packed token ids in, embeddings out.

Shape suffixes: T tokens of a packed batch, B texts, L tokens of the longest text of a group,
H hidden size, D embedding.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from embedft.encoder.attention import NAME as PACKED_ATTENTION
from embedft.encoder.base_model import OTHER_MODEL, find_base_model
from embedft.encoder.dropout import DropoutMasks, replace_dropout, set_dropout
from embedft.encoder.head import load_head
from embedft.encoder.loading import (
    check_padding,
    first_position_id,
    load_backbone,
    load_tokenizer,
    resolve_max_seq_length,
)
from embedft.encoder.lora import add_lora, merged_weights, without_adapters
from embedft.encoder.mpnet import packed_mpnet
from embedft.encoder.packing import PackedLayout, pad_to_multiple, similar_lengths
from embedft.encoder.pooling import Pooling, pool, pool_packed
from embedft.encoder.token_embedding import TokenEmbedding
from embedft.errors import InputError
from embedft.tools.device import out_of_memory
from embedft.tools.text import error_line

log = logging.getLogger(__name__)

# Families whose forward hands its keyword arguments to the attention; MPNet is handled apart.
_PACKED = {"bert", "xlm-roberta", "roberta", "distilbert", "modernbert"}


class Encoder(nn.Module):
    """A Hugging Face encoder with pooling and normalisation; its own pooler is not used.

    For each argument with a default of None, None takes the setting of the base model's folder.

    Args:
        base_model: Folder, hub id, or an id whose weights an installed package ships.
        pooling: ``mean``, ``cls``, ``max`` or ``lasttoken``; without a setting in the folder
            ``mean``.
        normalize: Scale embeddings to unit length; without a setting in the folder False.
        max_seq_length: Maximum tokens per text, special tokens included; without a setting in the
            folder all of the backbone's positions.
        query_prompt: Prefix of questions.
        document_prompt: Prefix of passages.
        lora: Settings of the adapters, which are then trained instead of the weights; None trains
            the weights.
        dropout: Probability of each dropout except the adapters'.

    Raises:
        InputError: The model can't be found or loaded, or a setting does not fit it.
    """

    def __init__(
        self,
        base_model: str,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        max_seq_length: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        lora: dict[str, Any] | None = None,
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.base = find_base_model(base_model).with_prompts(query_prompt, document_prompt)
        self.pooling = pooling or self.base.pooling
        self.normalize = self.base.normalize if normalize is None else normalize
        self.tokenizer = load_tokenizer(self.base)
        self.backbone = load_backbone(self.base)
        self._packs = self.base.config.model_type in {*_PACKED, "mpnet"}
        if not self._packs or self.tokenizer.padding_side == "left":
            check_padding(self.base, self.backbone, self.tokenizer)
        self.head = load_head(self.base, self.normalize)
        if dropout is not None:
            set_dropout(self, dropout)
        self.max_seq_length = resolve_max_seq_length(self.base, self.tokenizer, max_seq_length)
        self._check_prompts()
        # Not part of the trained model; kept only for the export. A tuple hides it from PyTorch.
        self.base_pooler = (getattr(self.backbone, "pooler", None),)
        if self.base_pooler[0] is not None:
            self.backbone.register_module("pooler", nn.Identity())  # some families call it anyway
        self.lora = lora
        if lora is not None:
            add_lora(self.backbone, lora)
            self.head.requires_grad_(False)
        self._has_embedded = False
        self.masks = DropoutMasks()
        self._prepare()
        log.info(
            "encoder %s: %.1f M parameters, %d dimensions, at most %d tokens per text, "
            "%s pooling, %s",
            base_model,
            sum(parameter.numel() for parameter in self.parameters()) / 1e6,
            self.embedding_dim,
            self.max_seq_length,
            self.pooling,
            "unit-length embeddings" if self.head.unit_length else "embeddings of any length",
        )
        if lora is not None:
            trained = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
            log.info("lora: %.2f M parameters are trainable", trained / 1e6)

    def _check_prompts(self) -> None:
        for kind, text in (("query", self.query_text("")), ("document", self.document_text(""))):
            tokens = len(self.tokenizer(text)["input_ids"])
            if text and tokens >= self.max_seq_length:
                raise InputError(
                    f"{kind}_prompt: with {tokens} tokens it fills max_seq_length "
                    f"{self.max_seq_length}, so nothing of a text would be left; give a shorter "
                    "prompt or a larger --max_seq_length"
                )

    def _prepare(self) -> None:
        """Replaces parts of the backbone by faster ones; parameters and their names stay."""
        if not self._packs:
            return
        if self.base.config.model_type != "mpnet":
            self.backbone.set_attn_implementation(PACKED_ATTENTION)
        replace_dropout(self.backbone, self.masks)
        table = self.backbone.get_input_embeddings()
        if type(table) is nn.Embedding:
            self.backbone.set_input_embeddings(TokenEmbedding(table))
        embeddings: nn.Module = self.backbone.embeddings  # type: ignore[assignment]
        embeddings.register_forward_hook(_to_autocast_dtype)

    def freeze(self, layers: int) -> None:
        """Freezes the embeddings and the lowest ``layers`` layers.

        Args:
            layers: From 0 to one less than the number of layers.

        Raises:
            InputError: ``layers`` is out of its range, adapters are trained, or the layers of the
                backbone are not known.
        """
        if self.lora is not None:
            raise InputError(
                "freeze_layers: lora already freezes the whole base model. Remove one of them; for "
                "adapters only in some layers, set layers_to_transform of lora"
            )
        total = int(self.base.config.num_hidden_layers)
        if not 0 <= layers < total:
            raise InputError(
                f"freeze_layers: is {layers}, must be from 0 (only the embeddings) to {total - 1}: "
                f"{self.base.name} has {total} layers"
            )
        stacks = [
            module
            for module in self.backbone.modules()
            if isinstance(module, nn.ModuleList) and len(module) == total
        ]
        embeddings = getattr(self.backbone, "embeddings", None)
        if embeddings is None or not stacks:
            raise InputError(
                f"freeze_layers: the layers of {self.base.name} are not known. Remove this setting"
            )
        for module in (embeddings, *stacks[0][:layers]):
            module.requires_grad_(False)
        log.info(
            "frozen: %.1f M parameters",
            sum(weight.numel() for weight in self.parameters() if not weight.requires_grad) / 1e6,
        )

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights, on the CPU."""
        return {name: weight.cpu().clone() for name, weight in self.state_dict().items()}

    def base_weights(self) -> dict[str, Tensor]:
        """The weights of the base model's files, by the names of :meth:`weights`."""
        base = load_backbone(self.base).state_dict()
        state = {name: weight.cpu() for name, weight in self.backbone.state_dict().items()}
        restored = without_adapters(state, base)
        head = load_head(self.base, self.normalize).state_dict()
        return {f"backbone.{name}": weight for name, weight in restored.items()} | {
            f"head.{name}": weight for name, weight in head.items()
        }

    def plain_weights(self) -> dict[str, Tensor]:
        """The backbone's weights by the names of the base model's files, with adapters merged."""
        return self.backbone.state_dict() if self.lora is None else merged_weights(self.backbone)

    def restore_base_weights(self) -> None:
        """Undoes all training: reloads the weights of the base model's files."""
        self.load_state_dict(self.base_weights())

    @property
    def token_embedding(self) -> TokenEmbedding | None:
        """The table of token embeddings; None if the backbone keeps its own."""
        table = self.backbone.get_input_embeddings()
        return table if isinstance(table, TokenEmbedding) else None

    def shared_token_gradient(self) -> AbstractContextManager[None]:
        """Context for several forward passes that one backward pass follows."""
        return (
            nullcontext()
            if self.token_embedding is None
            else self.token_embedding.shared_gradient()
        )

    def reclaim_gradients(self) -> None:
        """Drops the largest gradient and keeps its memory for the next step."""
        if self.token_embedding is not None:
            self.token_embedding.reclaim_gradient()

    @property
    def embedding_dim(self) -> int:
        """D, the number of dimensions of an embedding."""
        return self.head.embedding_dim

    def query_text(self, text: str) -> str:
        """A question as the tokenizer gets it: with the model's prompt for queries, if any."""
        return self._text(self.base.query_prompt + text)

    def document_text(self, text: str) -> str:
        """A passage as the tokenizer gets it: with the model's prompt for documents, if any."""
        return self._text(self.base.document_prompt + text)

    def _text(self, text: str) -> str:
        return text.lower() if self.base.do_lower_case else text

    def forward(self, input_ids_T: Tensor, lengths_B: Tensor) -> Tensor:
        """Embeds packed texts.

        Args:
            input_ids_T: (T,) int64, the concatenated ids of the texts.
            lengths_B: (B,) int64, tokens per text, each at least 1; their sum is T. Keep them on
                the CPU: they steer the computation.

        Returns:
            (B, D) embeddings, float32 or better; an InputError if the first texts fail.
        """
        try:
            embeddings_BD = self._embed(input_ids_T, lengths_B)
        except Exception as error:  # the parts of its folder may not fit each other
            if self._has_embedded or out_of_memory(error):
                raise
            reason = f"it can't embed a text: {error_line(error)}{OTHER_MODEL}"
            raise InputError(f"base_model {self.base.name}: {reason}") from error
        self._has_embedded = True
        return embeddings_BD

    def _embed(self, input_ids_T: Tensor, lengths_B: Tensor) -> Tensor:
        device = input_ids_T.device
        texts = len(lengths_B)
        if self._packs:
            pad = self.tokenizer.pad_token_id
            input_ids_T, lengths_B = pad_to_multiple(input_ids_T, lengths_B, pad)
        layout = PackedLayout.from_lengths(lengths_B.cpu(), device)
        ids_T = input_ids_T[layout.token_index]
        if self._packs:
            if self.training:
                self.masks.reseed()
            pooled_BH = pool_packed(self._hidden(ids_T, layout), layout, self.pooling)
        else:
            pooled_BH = self._embed_padded(ids_T, layout)
        embeddings_BD: Tensor = self.head(pooled_BH[layout.index_of_text[:texts]])
        return embeddings_BD

    def _hidden(self, ids_T: Tensor, layout: PackedLayout) -> Tensor:
        """(T, H) the last hidden state of packed texts."""
        ids_1T = ids_T.unsqueeze(0)
        if self.base.config.model_type == "mpnet":
            return packed_mpnet(self.backbone, ids_1T, layout, self.masks).squeeze(0)
        positions_1T = (layout.position_ids + first_position_id(self.base.config)).unsqueeze(0)
        output = self.backbone(
            input_ids=ids_1T, position_ids=positions_1T, layout=layout, masks=self.masks
        )
        return output.last_hidden_state.squeeze(0)  # type: ignore[no-any-return]

    def _embed_padded(self, ids_T: Tensor, layout: PackedLayout) -> Tensor:
        """(B, H) pooled vectors; texts of similar length are padded to the longest of them."""
        parts = list(torch.split(ids_T, layout.lengths.tolist()))
        pad = self.tokenizer.pad_token_id
        pooled = []
        for start, end in similar_lengths(layout.lengths.tolist()):
            ids_BL = nn.utils.rnn.pad_sequence(parts[start:end], True, pad)
            lengths_B1 = layout.lengths[start:end].unsqueeze(1).to(ids_T.device)
            mask_BL = torch.arange(ids_BL.shape[1], device=ids_T.device) < lengths_B1
            output = self.backbone(input_ids=ids_BL, attention_mask=mask_BL.long())
            pooled.append(pool(output.last_hidden_state, mask_BL, self.pooling))
        return torch.cat(pooled)


def _to_autocast_dtype(module: nn.Module, args: Any, hidden: Tensor) -> Tensor:
    """Under autocast, lets the sums between layers stay in its dtype: saves casts."""
    device_type = hidden.device.type
    if not torch.is_autocast_enabled(device_type):
        return hidden
    return hidden.to(torch.get_autocast_dtype(device_type))
