"""Tiny models of each supported family, built from a config with random weights."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

SAMPLE = Path(str(resources.files("embedft.sample_data"))) / "pairs.jsonl"
MULTILINGUAL = SAMPLE.with_name("multilingual.jsonl")
FAMILIES = ("bert", "mpnet", "xlm-roberta", "distilbert", "modernbert")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]


def sample_rows(path: Path = SAMPLE) -> list[dict[str, Any]]:
    """The rows of a sample file."""
    return read_jsonl(path)


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Writes rows and returns the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def with_negatives(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with answers of 0 to 3 other rows as ``negatives``; a few are relevant after all."""
    answers = [row["answer"] for row in rows]
    return [
        row | {"negatives": [answers[(7 * i + 11 * k + 1) % len(rows)] for k in range(i % 4)]}
        for i, row in enumerate(rows)
    ]


def _tokenizer(family: str, vocab_size: int = 600) -> PreTrainedTokenizerFast:
    roberta = family in {"mpnet", "xlm-roberta"}
    special = _ROBERTA_TOKENS if roberta else _BERT_TOKENS
    first, pad, last, unknown, mask = (
        special if roberta else ("[CLS]", "[PAD]", "[SEP]", *special[1::3])
    )
    normalizer = normalizers.BertNormalizer(lowercase=True)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for path in (SAMPLE, MULTILINGUAL)
        for row in sample_rows(path)
        for key in ("question", "answer")
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(row[key]))
    )
    # Not the library's trainer: it breaks ties at random, so each run would have another model.
    characters = {word[0] for word in words} | {f"##{c}" for word in words for c in word[1:]}
    ranked = sorted(words, key=lambda word: (-words[word], word))
    pieces = [*special, *sorted(characters), *ranked]
    vocab = {piece: index for index, piece in enumerate(list(dict.fromkeys(pieces))[:vocab_size])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        mask_token=mask,
        model_max_length=64,
    )


def _config(family: str, vocab_size: int, pad: int) -> PreTrainedConfig:
    size: dict[str, Any] = {"vocab_size": vocab_size, "pad_token_id": pad}
    common: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    match family:
        case "bert":
            return BertConfig(**size, **common, max_position_embeddings=64)
        case "mpnet":
            return MPNetConfig(
                **size, **common, max_position_embeddings=66, bos_token_id=0, eos_token_id=2
            )
        case "xlm-roberta":
            return XLMRobertaConfig(
                **size,
                **common,
                max_position_embeddings=66,
                type_vocab_size=1,
                bos_token_id=0,
                eos_token_id=2,
            )
        case "distilbert":
            return DistilBertConfig(
                **size, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
            )
        case "modernbert":
            return ModernBertConfig(
                **size,
                **common,
                max_position_embeddings=64,
                local_attention=8,
                layer_types=["full_attention", "sliding_attention"],
                cls_token_id=2,
                sep_token_id=3,
                bos_token_id=2,
                eos_token_id=3,
            )
    raise ValueError(family)


def build_plain(folder: Path, family: str = "bert") -> Path:
    """A plain transformers folder: backbone and tokenizer, no modules.json."""
    tokenizer = _tokenizer(family)
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    torch.manual_seed(0)
    model = AutoModel.from_config(_config(family, len(tokenizer), pad))  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build(
    folder: Path,
    family: str = "bert",
    *,
    pooling: str = "mean",
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
    max_seq_length: int = 48,
) -> Path:
    """A sentence-transformers folder in the layout that the hub uses."""
    build_plain(folder, family)
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    _json(
        folder / "modules.json",
        [
            {
                "idx": i,
                "name": str(i),
                "path": paths[i],
                "type": f"sentence_transformers.models.{module}",
            }
            for i, module in enumerate(modules)
        ],
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    _json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 32}
        | {
            f"pooling_mode_{mode}": mode.startswith(pooling) and mode != "mean_sqrt_len_tokens"
            for mode in modes
        },
    )
    _json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": max_seq_length, "do_lower_case": False},
    )
    if prompts:
        _json(
            folder / "config_sentence_transformers.json",
            {"prompts": prompts, "default_prompt_name": None},
        )
    return folder


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


class Command:
    """Creates the marker file if it is unpickled without restrictions."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)
