"""Loading the tokenizer and backbone of a base model, and its limits of text length."""

from __future__ import annotations

import logging

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from embedft.encoder.base_model import OTHER_MODEL
from embedft.encoder.folder.model import BaseModel
from embedft.encoder.head import conversion_hint
from embedft.encoder.lora import with_adapters_merged
from embedft.errors import InputError, check_at_least
from embedft.tools.text import error_line

_NO_LIMIT = 10**9
"""Tokens per text of a model that has no limit."""


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a base model.

    Raises:
        InputError: It can't be loaded, or does not fit the model.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base.tokenizer_folder,
            local_files_only=True,
            trust_remote_code=False,
            **base.tokenizer_options,
        )
    # From json, the hub's client, or Rust, whose panics are no Exception; all mean the same.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(
            f"base_model {base.name}: its tokenizer can't be loaded: "
            f"{error_line(error)}{OTHER_MODEL}"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"base_model {base.name}: has no fast tokenizer (tokenizer.json){OTHER_MODEL}"
        )
    # Without its files transformers silently makes an empty tokenizer.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(
            f"base_model {base.name}: its tokenizer has no vocabulary. Download its files again"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"base_model {base.name}: its tokenizer has no padding token{OTHER_MODEL}")
    largest = _largest_token_id(base, tokenizer)
    if largest >= base.config.vocab_size:
        raise InputError(
            f"base_model {base.name}: its tokenizer has {largest + 1} tokens, but the model has "
            f"embeddings for {base.config.vocab_size}{OTHER_MODEL}"
        )
    return tokenizer


def _largest_token_id(base: BaseModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest id of the vocabulary, and of the special tokens around each text.

    Raises:
        InputError: The tokenizer can't tokenise a word.
    """
    backend = tokenizer.backend_tokenizer
    try:
        backend.no_padding()  # a file may ask for texts of any length
        backend.no_truncation()
        word, text = backend.encode("a", add_special_tokens=False), backend.encode("a")
        if not word.ids or word.ids[0] not in text.ids:
            raise ValueError("it leaves words out")
        return int(max(*backend.get_vocab(with_added_tokens=True).values(), *text.ids))
    except BaseException as error:  # as above
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(
            f"base_model {base.name}: its tokenizer can't be used: {error_line(error)}{OTHER_MODEL}"
        ) from None


def load_backbone(base: BaseModel) -> PreTrainedModel:
    """Loads the transformer of a base model, in float32 and training mode.

    Raises:
        InputError: It can't be loaded, lacks weights, or is no encoder.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)  # missing weights are reported below
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
        if base.adapter is not None:
            backbone = with_adapters_merged(backbone, base.adapter)
    except ImportError:
        raise InputError(
            f"base_model {base.name}: has adapters, and peft is not installed. Install it with: "
            "pip install 'embedft[lora]'"
        ) from None
    except Exception as error:  # missing or broken files, shapes, unknown architectures
        raise InputError(
            f"base_model {base.name}: its weights can't be loaded: {error_line(error)}"
            f"{conversion_hint(base.folder) or OTHER_MODEL}"
        ) from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(
            f"base_model {base.name}: {len(missing)} weights are missing in its file, "
            f"the first is {missing[0]}. Download the file again"
        )
    if getattr(base.config, "is_encoder_decoder", False):
        raise InputError(
            f"base_model {base.name}: is an encoder-decoder, not an encoder{OTHER_MODEL}"
        )
    backbone.train()
    return backbone  # type: ignore[no-any-return]


def resolve_max_seq_length(
    base: BaseModel, tokenizer: PreTrainedTokenizerBase, max_seq_length: int | None
) -> int:
    """Maximum tokens per text, special tokens included.

    Args:
        base: Has a number of positions, and perhaps a limit of its own.
        tokenizer: Has a limit that counts if the model's folder has none; adds special tokens.
        max_seq_length: What the user set; None takes the limit of model or tokenizer.

    Raises:
        InputError: The limit leaves no room for text, or ``max_seq_length`` exceeds the model's
            positions.
    """
    positions = max_positions(base.config)
    if max_seq_length is None:
        of_model = base.max_seq_length or tokenizer.model_max_length
        numbers = [limit for limit in (of_model, positions) if isinstance(limit, int | float)]
        limit = int(min([*numbers, _NO_LIMIT]))
        if limit < tokenizer.num_special_tokens_to_add() + 1:
            raise InputError(
                f"base_model {base.name}: its max_seq_length is {limit}, which leaves no room for "
                f"text; give --max_seq_length"
            )
        return limit
    least = tokenizer.num_special_tokens_to_add() + 1
    check_at_least(least, max_seq_length=max_seq_length)
    if positions is not None and max_seq_length > positions:
        raise InputError(
            f"max_seq_length: is {max_seq_length}, but {base.name} has positions for {positions} "
            f"tokens; give --max_seq_length {positions} or less"
        )
    return max_seq_length


def check_padding(
    base: BaseModel, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Runs a backbone once with padding and once without, which must not change embeddings.

    Otherwise the embedding of a text would depend on the other texts of its batch, in
    sentence-transformers as here.

    Raises:
        InputError: It does, or the backbone can't run on text alone.
    """
    ids_1L = torch.tensor([tokenizer("one two three")["input_ids"]])
    is_left = tokenizer.padding_side == "left"
    padding = (4, 0) if is_left else (0, 4)
    padded_1L = nn.functional.pad(ids_1L, padding, value=tokenizer.pad_token_id)
    mask_1L = nn.functional.pad(torch.ones_like(ids_1L), padding)
    backbone.train(False)
    try:
        with torch.no_grad():
            plain_LH = backbone(
                input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L)
            ).last_hidden_state[0]
            padded_LH = backbone(input_ids=padded_1L, attention_mask=mask_1L).last_hidden_state[0]
    except Exception as error:  # from the families' own code
        raise InputError(
            f"base_model {base.name}: it can't embed a text: {error_line(error)}{OTHER_MODEL}"
        ) from None
    backbone.train()
    if torch.allclose(plain_LH, padded_LH[mask_1L[0].bool()], rtol=1e-3, atol=1e-3):
        return
    if is_left:
        raise InputError(
            f"base_model {base.name}: its tokenizer pads on the left, which changes this model's "
            'embeddings. Set "padding_side": "right" in its tokenizer_config.json'
        )
    raise InputError(
        f"base_model {base.name}: padding changes its embeddings, so they depend on the other "
        f"texts of a batch{OTHER_MODEL}"
    )


# Families whose first position id is the one after that of the padding token.
_AFTER_PADDING = {
    *("roberta", "xlm-roberta", "mpnet", "camembert", "xlm-roberta-xl", "roberta-prelayernorm"),
    *(
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "xmod",
    ),
}


def first_position_id(config: PretrainedConfig) -> int:
    """The position id of a text's first token; some families start after the padding id."""
    return config.pad_token_id + 1 if config.model_type in _AFTER_PADDING else 0


def max_positions(config: PretrainedConfig) -> int | None:
    """The number of tokens that a backbone has positions for; None if there is no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 0:  # XLNet has -1
        return None
    return positions - first_position_id(config)
