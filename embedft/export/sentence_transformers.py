"""Writes sentence-transformers folders that every release from 2.2 on can load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from embedft.encoder.checkpoint import load_weights, read_checkpoint
from embedft.encoder.encoder import Encoder
from embedft.encoder.folder.settings import read_object
from embedft.errors import InputError
from embedft.export.model_card import ModelCard
from embedft.tools.files import replacing_folder, write_json

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "unigram.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


def export_encoder(encoder: Encoder, folder: Path, card: ModelCard) -> None:
    """Writes an encoder as a sentence-transformers model.

    Weights are float32 safetensors. The base model's configuration and tokenizer files are copied,
    since training does not change them: software that loads the base model can load this one. An
    existing folder is replaced once the new one is complete.

    Args:
        encoder: The encoder.
        folder: Folder to write.
        card: Becomes ``README.md``.
    """
    with replacing_folder(folder) as target:
        _write_backbone(encoder, target)
        _write_tokenizer(encoder, target)
        _write_modules(encoder, target)
        (target / "README.md").write_text(card.render(), encoding="utf-8")


def _write_modules(encoder: Encoder, target: Path) -> None:
    """The list of modules, and the settings of each."""
    base = encoder.base
    head = [kind for kind, _ in base.head]
    modules = ["Transformer", "Pooling", *head, *(["Normalize"] if encoder.normalize else [])]
    paths = ["", *(f"{index}_{module}" for index, module in enumerate(modules) if index)]
    write_json(
        target / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{module}",
            }
            for index, (module, path) in enumerate(zip(modules, paths, strict=True))
        ],
    )
    write_json(
        target / "sentence_bert_config.json",
        {"max_seq_length": encoder.max_seq_length, "do_lower_case": base.do_lower_case},
    )
    pooling = {
        "word_embedding_dimension": base.config.hidden_size,
        "pooling_mode_cls_token": encoder.pooling == "cls",
        "pooling_mode_mean_tokens": encoder.pooling == "mean",
        "pooling_mode_max_tokens": encoder.pooling == "max",
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    if encoder.pooling == "lasttoken":  # release 2.2 does not know it
        pooling["pooling_mode_lasttoken"] = True
    write_json(target / "1_Pooling" / "config.json", pooling)
    for path, module, (_, folder) in zip(paths[2:], encoder.head, base.head, strict=False):
        write_json(target / path / "config.json", read_object(folder / "config.json"))
        if state := module.state_dict():
            save_file(
                {name: weight.float().contiguous() for name, weight in state.items()},
                target / path / "model.safetensors",
                {"format": "pt"},
            )
    if encoder.normalize:
        write_json(target / paths[-1] / "config.json", {})
    write_json(
        target / "config_sentence_transformers.json",
        {
            "__version__": {
                "sentence_transformers": "2.2.0",
                "transformers": transformers.__version__,
                "pytorch": torch.__version__,
            },
            "prompts": base.prompts_by_task(),
            "default_prompt_name": base.default_prompt_name,
            "similarity_fn_name": base.similarity,
            **({} if base.truncate_dim is None else {"truncate_dim": base.truncate_dim}),
        },
    )


def _write_backbone(encoder: Encoder, target: Path) -> None:
    backbone = encoder.backbone
    weights = encoder.plain_weights()
    state = {name: tensor.float().contiguous() for name, tensor in weights.items()}
    if (pooler := encoder.base_pooler[0]) is not None:  # as the base has it: plain loaders ask
        state |= {f"pooler.{name}": tensor for name, tensor in pooler.state_dict().items()}
    backbone.save_pretrained(target, state_dict=state)
    config = json.loads((encoder.base.folder / "config.json").read_text(encoding="utf-8"))
    for key in ("torch_dtype", "dtype"):
        if key in config:
            config[key] = "float32"
    write_json(target / "config.json", config)


def _write_tokenizer(encoder: Encoder, target: Path) -> None:
    for name in _TOKENIZER_FILES:
        source = encoder.base.tokenizer_folder / name
        if source.is_file():
            shutil.copyfile(source, target / name)
    only_slow_files = not (target / "tokenizer.json").is_file()
    if only_slow_files or encoder.base.tokenizer_options:
        encoder.tokenizer.save_pretrained(target)
    path = target / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if config.get("tokenizer_class") == "TokenizersBackend":  # its name before transformers 5
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config.setdefault("model_input_names", ["input_ids", "attention_mask"])
    write_json(path, config | {"model_max_length": encoder.max_seq_length})


def export_checkpoint(
    ckpt_path: str, output_dir: str, base_model: str | None = None, overwrite: bool = False
) -> None:
    """Writes the sentence-transformers folder of a checkpoint.

    Args:
        ckpt_path: Checkpoint file, for example out/checkpoints/best.ckpt.
        output_dir: Folder to write.
        base_model: The base model's folder or hub id, if it has moved since the training.
        overwrite: Replace an existing folder.

    Raises:
        InputError: The checkpoint or its base model can't be used, or the folder is in use.
    """
    folder = Path(output_dir)
    _check_output_folder(folder, overwrite)
    path = Path(ckpt_path)
    checkpoint = read_checkpoint(path)
    settings = checkpoint["embedft_hyper_parameters"]
    encoder = Encoder(
        base_model or settings["base_model"],
        settings["pooling"],
        settings["normalize"],
        settings["max_seq_length"],
        settings.get("query_prompt"),
        settings.get("document_prompt"),
        settings.get("lora"),
    )
    if encoder.base.folder.resolve() == folder.resolve():
        raise InputError(f"{folder}: is the base model; give another --output_dir")
    load_weights(encoder, checkpoint, path)
    evaluations = checkpoint.get("callbacks", {}).get("RunFiles", {}).get("evaluations", {})
    of_step = [
        evaluation
        for evaluation in evaluations.values()
        if evaluation["step"] == checkpoint["global_step"]
    ]
    card = ModelCard(
        base_model=settings["base_model"],
        hub_id=encoder.base.hub_id,
        embedding_dim=encoder.embedding_dim,
        max_seq_length=encoder.max_seq_length,
        hyperparameters={key: settings[key] for key in settings if key != "base_model"},
        base=evaluations.get("base"),
        tuned=of_step[-1] if of_step else None,
        prompts=encoder.base.prompts,
    )
    export_encoder(encoder, folder, card)


def _check_output_folder(folder: Path, overwrite: bool) -> None:
    """Checks that an export may write here, and would delete nothing but an exported model.

    Raises:
        InputError: It may not.
    """
    in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if in_use and not overwrite:
        raise InputError(f"{folder}: exists already; give another --output_dir or --overwrite")
    is_model = (folder / "modules.json").is_file() and not (folder / "checkpoints").exists()
    if in_use and folder.is_dir() and not is_model:
        raise InputError(
            f"{folder}: is not an exported model, and --overwrite would delete it. Give another "
            "--output_dir"
        )
