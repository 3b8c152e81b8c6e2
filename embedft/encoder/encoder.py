"""Backbone, pooling and normalisation: packed token ids in, embeddings out.

Shape suffixes: T tokens of a packed batch, B texts, L tokens of the longest of a group,
D embedding.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from embedft.encoder.attention import NAME as PACKED_ATTENTION
from embedft.encoder.base_model import find_base_model
from embedft.encoder.dropout import DropoutMasks, replace_dropout, set_dropout
from embedft.encoder.loading import (
    first_position_id,
    load_backbone,
    load_tokenizer,
    resolve_max_seq_length,
)
from embedft.encoder.lora import add_lora, merged_weights, without_adapters
from embedft.encoder.mpnet import packed_mpnet
from embedft.encoder.packing import PackedLayout
from embedft.encoder.pooling import Pooling, pool, pool_packed
from embedft.encoder.token_embedding import TokenEmbedding
from embedft.errors import InputError

log = logging.getLogger(__name__)

# Families whose forward passes a layout on to the attention; MPNet has a path of its own.
_PACKED = {"bert", "xlm-roberta", "roberta", "distilbert", "modernbert"}

# Texts that are padded together are none shorter than this share of the longest.
_SHORTEST_OF_RUN = 0.75


class Encoder(nn.Module):
    """A Hugging Face encoder without its pooler, with pooling and normalisation of its own.

    Args:
        base_model: Folder, hub id, or an id whose weights an installed package ships.
        pooling: ``mean`` or ``cls``; None takes what the base model's folder says, else ``mean``.
        normalize: Scale embeddings to length 1; None takes what the folder says, else False.
        max_seq_length: Tokens a text at most, special tokens included; None takes what the folder
            says, else the most that the backbone's positions allow.
        query_prompt: What stands before a question; None takes what the folder says.
        document_prompt: What stands before a passage; None takes what the folder says.
        lora: Settings of the adapters that are trained in place of the weights; None for none.
        dropout: Probability of each dropout but the adapters'; None takes what the folder says.

    Raises:
        InputError: The model can't be found, loaded or used so.
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
        if dropout is not None:
            set_dropout(self.backbone, dropout)
        self.max_seq_length = resolve_max_seq_length(self.base, self.tokenizer, max_seq_length)
        # Unused by our pooling, so not part of the trained model; kept for the export alone.
        self.base_pooler = (getattr(self.backbone, "pooler", None),)
        if self.base_pooler[0] is not None:
            self.backbone.register_module("pooler", None)
        self.lora = lora
        if lora is not None:
            add_lora(self.backbone, lora)
        self._packs = self.base.config.model_type in {*_PACKED, "mpnet"}
        self.masks = DropoutMasks()
        self._prepare()
        log.info(
            "encoder %s: %.1f M parameters, %d dimensions, up to %d tokens a text, %s pooling, %s",
            base_model,
            sum(parameter.numel() for parameter in self.parameters()) / 1e6,
            self.embedding_dim,
            self.max_seq_length,
            self.pooling,
            "length 1" if self.normalize else "any length",
        )
        if lora is not None:
            trained = sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
            log.info("lora: %.2f M parameters are trained", trained / 1e6)

    def _prepare(self) -> None:
        """Puts faster parts into the backbone, with the same parameters under the same names."""
        if not self._packs:
            return
        if self.base.config.model_type != "mpnet":
            self.backbone.set_attn_implementation(PACKED_ATTENTION)
        replace_dropout(self.backbone, self.masks)
        words = self.backbone.get_input_embeddings()
        if type(words) is nn.Embedding:
            self.backbone.set_input_embeddings(TokenEmbedding(words))
        embeddings: nn.Module = self.backbone.embeddings  # type: ignore[assignment]
        embeddings.register_forward_hook(_to_autocast_dtype)

    def freeze(self, layers: int) -> None:
        """The embeddings and so many of the lowest layers get no gradient.

        Raises:
            InputError: There are not so many layers above which something is left to train.
        """
        if self.lora is not None:
            raise InputError(
                "freeze_layers: lora freezes all of the base model; leave one of them out (for "
                "adapters in some layers alone give lora layers_to_transform)"
            )
        total = int(self.base.config.num_hidden_layers)
        if not 0 <= layers < total:
            raise InputError(
                f"freeze_layers: is {layers}, must lie from 0 (the embeddings alone) to "
                f"{total - 1}: {self.base.name} has {total} layers"
            )
        stacks = [
            module
            for module in self.backbone.modules()
            if isinstance(module, nn.ModuleList) and len(module) == total
        ]
        embeddings = getattr(self.backbone, "embeddings", None)
        if embeddings is None or not stacks:
            raise InputError(f"freeze_layers: {self.base.name} has no layers known to embedft")
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
        """Those of the base model's files, under the names of :meth:`weights`."""
        base = load_backbone(self.base).state_dict()
        own = {name: weight.cpu() for name, weight in self.backbone.state_dict().items()}
        return {f"backbone.{name}": weight for name, weight in without_adapters(own, base).items()}

    def plain_weights(self) -> dict[str, Tensor]:
        """The backbone's weights by the names of the base model's files, adapters merged."""
        return self.backbone.state_dict() if self.lora is None else merged_weights(self.backbone)

    def restore_base_weights(self) -> None:
        """Undoes all training: the weights are again those of the base model's files."""
        self.load_state_dict(self.base_weights())

    @property
    def token_embedding(self) -> TokenEmbedding | None:
        """The table of word vectors; None where it is the backbone's own."""
        words = self.backbone.get_input_embeddings()
        return words if isinstance(words, TokenEmbedding) else None

    def shared_token_gradient(self) -> AbstractContextManager[None]:
        """For several forward passes that one backward pass follows."""
        return (
            nullcontext()
            if self.token_embedding is None
            else self.token_embedding.shared_gradient()
        )

    def reclaim_gradients(self) -> None:
        """Before gradients are dropped: lets the largest one's memory serve the next step."""
        if self.token_embedding is not None:
            self.token_embedding.reclaim_gradient()

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
            lengths_B: (B,) int64, tokens a text, each at least 1; their sum is T. Best left on the
                CPU, where it steers the computation.

        Returns:
            (B, D) embeddings, float32 or better.
        """
        device = input_ids_T.device
        texts = len(lengths_B)
        if self._packs:
            input_ids_T, lengths_B = self._rounded(input_ids_T, lengths_B)
        layout = PackedLayout.from_lengths(lengths_B.cpu(), device)
        ids_T = input_ids_T[layout.token_index]
        if self._packs:
            if self.training:
                self.masks.reseed()
            pooled_BD = pool_packed(self._hidden(ids_T, layout), layout, self.pooling)
        else:
            pooled_BD = self._embed_padded(ids_T, layout)
        embeddings_BD = pooled_BD[layout.index_of_text[:texts]]
        return nn.functional.normalize(embeddings_BD, dim=-1) if self.normalize else embeddings_BD

    def _rounded(self, input_ids_T: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """With texts of padding at the end, that make the number of tokens a round one.

        Each number of tokens that is new costs a CPU's library 7 ms and 10 MB, to compile its
        matrix products, and a GPU's 0.1 to 0.2 ms a product, to choose among its kernels.
        """
        missing = -len(input_ids_T) % _round_number(len(input_ids_T), input_ids_T.device)
        if not missing:
            return input_ids_T, lengths_B
        longest = int(lengths_B.max())
        padding = [longest] * (missing // longest) + [missing % longest] * (missing % longest > 0)
        pad_T = input_ids_T.new_full((missing,), self.tokenizer.pad_token_id)
        return torch.cat([input_ids_T, pad_T]), torch.cat(
            [lengths_B, lengths_B.new_tensor(padding)]
        )

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
        """(B, D): texts of like length are padded to the longest of them."""
        parts = list(torch.split(ids_T, layout.lengths.tolist()))
        pad = self.tokenizer.pad_token_id
        pooled = []
        for first, last in _like_lengths(layout.lengths.tolist()):
            ids_BL = nn.utils.rnn.pad_sequence(parts[first:last], True, pad)
            lengths_B1 = layout.lengths[first:last].unsqueeze(1).to(ids_T.device)
            mask_BL = torch.arange(ids_BL.shape[1], device=ids_T.device) < lengths_B1
            output = self.backbone(input_ids=ids_BL, attention_mask=mask_BL.long())
            pooled.append(pool(output.last_hidden_state, mask_BL, self.pooling))
        return torch.cat(pooled)


def _round_number(tokens: int, device: torch.device) -> int:
    """What a number of tokens is filled up to a multiple of.

    On a GPU so that few numbers are left: a 32nd to a 16th of the tokens.
    """
    return 32 if device.type == "cpu" else 1 << max(6, tokens.bit_length() - 5)


def _like_lengths(lengths: list[int]) -> list[tuple[int, int]]:
    """Cuts descending lengths into runs of like length: (first, end) each."""
    runs = []
    first = 0
    for place, length in enumerate(lengths):
        if length < _SHORTEST_OF_RUN * lengths[first]:
            runs.append((first, place))
            first = place
    runs.append((first, len(lengths)))
    return runs


def _to_autocast_dtype(module: nn.Module, args: Any, hidden: Tensor) -> Tensor:
    """Under autocast all layers compute in its dtype, the sums between them too: no casts."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        return hidden
    return hidden.to(torch.get_autocast_dtype(kind))
