"""The Trainer of the command line, its defaults, and the settings that a fit writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from embedft.data.datamodule import EmbeddingDataModule
from embedft.recipe import EPOCHS
from embedft.run.folder import RunFolder
from embedft.tools.files import replacing_file
from embedft.training.module import EmbeddingModule
from embedft.training.trainer import EmbedftTrainer

TRAINER_DEFAULTS = {
    "max_epochs": EPOCHS,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": -1,  # all batches: this evaluates the base model
    "reload_dataloaders_every_n_epochs": 1,  # each epoch has new batches
    "use_distributed_sampler": False,  # the batch plan distributes the rows
    "enable_model_summary": False,  # the encoder logs its size in one line
}


class CommandLineTrainer(EmbedftTrainer):
    """The Trainer of the command line: Lightning's subcommands and ``check``."""

    def check(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        html: str | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Reports what a fit with these settings would read, and what to change.

        Args:
            model: As for ``fit``.
            datamodule: As for ``fit``.
            html: HTML page to write, with charts; nothing else is written.
            ckpt_path: Not used; accepted so that the config file of a fit can be checked.
            weights_only: Not used, as ``ckpt_path``.
        """
        from embedft.check.check import check  # the charts' library is large

        check(self, model, datamodule, html)  # type: ignore[arg-type]  # the command line's own


class SaveConfig(SaveConfigCallback):
    """Writes the resolved ``config.yaml`` of a fit into the output folder."""

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Replaces an earlier file: preflight has decided that the folder may be used."""
        if stage != "fit":
            return
        config = self.config.clone()
        # They concern this one run, not every run with this config.
        config.overwrite, config.ckpt_path, config.report = False, None, None
        text = self.parser.dump(config, skip_unset=False)
        with replacing_file(RunFolder(Path(self.config.output_dir)).config) as temporary:
            temporary.write_text(text, encoding="utf-8")


def hyperparameters(
    trainer: Trainer, module: EmbeddingModule, data: EmbeddingDataModule, settings: Namespace
) -> dict[str, Any]:
    """What model card and report list.

    Args:
        trainer: Of the run.
        module: Of the run.
        data: Of the run.
        settings: Of the command line; the loss is described by them.
    """
    return {
        "loss": f"{type(module.loss).__name__} {dict(settings.model.loss.get('init_args') or {})}",
        "max_epochs": trainer.max_epochs,
        "learning_rate": module.learning_rate,
        "warmup_steps": module.warmup_steps,
        "base_share": module.base_share,
        "mine_negatives": data.training.mines,
        "batch_size": data.batch_size * trainer.world_size,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "weight_decay": module.weight_decay,
        "gradient_clip_val": trainer.gradient_clip_val,
        "precision": trainer.precision,
        "seed": data.seed,
        "split_seed": data.split_seed,
        "train_split": data.train_split,
        "positive": data.positive,
        "hard_negatives": data.training.n_hard_negatives,
        **{
            name: module.hparams[name]
            for name in ("matryoshka_dims", "lora", "freeze_layers", "dropout")
            if module.hparams[name] is not None
        },
    }


def callbacks_in_words(settings: Namespace) -> list[str]:
    """Class and arguments of each callback that was asked for, as a config has them."""
    asked = settings.trainer.get("callbacks") or []
    return [
        f"{callback.class_path.rpartition('.')[2]} {dict(callback.get('init_args') or {})}"
        for callback in (asked if isinstance(asked, list) else [asked])
    ]
