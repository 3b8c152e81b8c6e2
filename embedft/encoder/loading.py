"""Tokenizer and backbone of a base model, and how long its texts may be."""

from __future__ import annotations

import logging

import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from embedft.encoder.base_model import OTHER_MODEL, BaseModel
from embedft.errors import InputError
from embedft.tools.text import error_line


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # many kinds, from json to Rust; all mean the same to the user
        raise InputError(
            f"base_model {base.name}: its tokenizer can't be loaded: "
            f"{error_line(error)}{OTHER_MODEL}"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"base_model {base.name}: has no fast tokenizer (tokenizer.json){OTHER_MODEL}"
        )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # made of nothing, without a word
        raise InputError(f"base_model {base.name}: its tokenizer has no words: get its files anew")
    if len(tokenizer) > base.config.vocab_size:
        raise InputError(
            f"base_model {base.name}: its tokenizer has {len(tokenizer)} tokens, the model knows "
            f"{base.config.vocab_size}{OTHER_MODEL}"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"base_model {base.name}: its tokenizer has no padding token{OTHER_MODEL}")
    return tokenizer


def load_backbone(base: BaseModel) -> PreTrainedModel:
    """The transformer of a base model."""
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
        raise InputError(
            f"base_model {base.name}: its weights can't be loaded: {error_line(error)}{OTHER_MODEL}"
        ) from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(
            f"base_model {base.name}: {len(missing)} weights are missing in its file, "
            f"the first is {missing[0]}; get the file anew"
        )
    if getattr(base.config, "is_encoder_decoder", False):
        raise InputError(
            f"base_model {base.name}: is an encoder-decoder, not an encoder{OTHER_MODEL}"
        )
    backbone.train()
    return backbone  # type: ignore[no-any-return]


def resolve_max_seq_length(
    base: BaseModel, tokenizer: PreTrainedTokenizerBase, asked: int | None
) -> int:
    """Tokens a text at most: as asked, or as the model's folder says.

    Raises:
        InputError: More are asked for than the model has positions.
    """
    limit = max_positions(base.config)
    if asked is None:
        known = [base.max_seq_length, tokenizer.model_max_length, limit]
        return min(length for length in known if length is not None)
    least = tokenizer.num_special_tokens_to_add() + 1
    if asked < least:
        raise InputError(f"max_seq_length: is {asked}, must be at least {least}")
    if limit is not None and asked > limit:
        raise InputError(
            f"max_seq_length: is {asked}, but {base.name} has positions for {limit} tokens; "
            f"give --max_seq_length {limit} or less"
        )
    return asked


def first_position_id(config: PretrainedConfig) -> int:
    """The position id of a text's first token: some families start after the padding id."""
    after_padding = config.model_type in {"roberta", "xlm-roberta", "mpnet", "camembert"}
    return config.pad_token_id + 1 if after_padding else 0


def max_positions(config: PretrainedConfig) -> int | None:
    """The longest text that the backbone has positions for."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    return None if positions is None else positions - first_position_id(config)
