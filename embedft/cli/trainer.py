"""The Trainer of the command line, its defaults, and the config file that a fit writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import SaveConfigCallback

from embedft.recipe import EPOCHS
from embedft.run.folder import RunFolder
from embedft.tools.files import replacing_file
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
