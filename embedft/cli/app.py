"""``fit``, ``validate``, ``test``, ``predict`` and ``check``: parse, preflight, run.

Methods are in the order in which LightningCLI calls them.
"""

from __future__ import annotations

import logging
import signal
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from embedft.cli.flags import RUN_FLAGS
from embedft.cli.messages import root_cause
from embedft.cli.preflight import check_command, check_run, check_seed, check_trainer, check_weights
from embedft.cli.trainer import callbacks_in_words, hyperparameters
from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import EmbedftError, InputError, StoppedError
from embedft.run.best import how_best_model_differs
from embedft.run.checkpoints import AtomicCheckpointIO, RunCheckpoints, restoring_error
from embedft.run.claim import Claim
from embedft.run.early_stopping import ResumableEarlyStopping
from embedft.run.evaluate import evaluate_and_report
from embedft.run.finish import finish_run
from embedft.run.folder import RunFolder
from embedft.run.metrics_log import MetricsLog
from embedft.run.predictions import PredictionWriter, predictions_folder
from embedft.run.run import Run
from embedft.run.signals import StopOnSignal, ending_at_once
from embedft.run.tensorboard import RunTensorBoard
from embedft.tools.device import out_of_memory
from embedft.tools.log import RESULT, log_to_file
from embedft.tools.text import error_line
from embedft.training.callbacks import check_monitors
from embedft.training.module import EmbeddingModule

log = logging.getLogger(__name__)

_TO_EXPORT = "training is complete and saved; rerun with --ckpt_path last to export models"


class EmbedftCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of one module and one datamodule."""

    model: EmbeddingModule
    datamodule: EmbeddingDataModule
    subcommand: str
    settings: Namespace
    """Settings of the subcommand."""
    folder: RunFolder
    claim: Claim
    """Of a fit, on its folder."""
    checkpoint: dict[str, Any] | None = None
    """The checkpoint that is resumed or evaluated."""

    # Parse.

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # it is static there
        """Lightning's subcommands and ``check``; metrics are printed here, not by Lightning.

        Only those that ``parser_kwargs`` has settings for, if any: each parser takes 0.1 s.
        """
        known = LightningCLI.subcommands()
        known |= {name: known[name] | {"verbose"} for name in ("validate", "test")}
        known["check"] = {"model", "datamodule"}
        wanted = known.keys() & self.parser_kwargs or known
        return {name: skipped for name, skipped in known.items() if name in wanted}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the flags that belong to a run as a whole."""
        for flag in RUN_FLAGS:
            parser.add_argument(
                f"--{flag.name}", type=flag.type, default=flag.default, help=flag.help
            )
        parser.set_defaults({"model.loss": {"class_path": "MultipleNegativesRankingLoss"}})
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, and turns ``best`` and ``last`` into files of the output folder."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, EmbedftError, OSError):
            raise
        except Exception as error:  # whatever a setting makes the parser raise
            raise InputError(f"a setting can't be read: {error_line(error)}") from error
        self.settings = self.config[self.config.subcommand]
        check_seed(self.settings.get("seed_everything"))
        self.folder = RunFolder(Path(self.settings.output_dir))
        self.claim = Claim(self.folder)
        if self.config.subcommand == "fit" and (saved := self.folder.requeued()):
            self.settings.ckpt_path = str(saved)  # Lightning would resume from it in any case
        if self.config.subcommand == "check":
            self.settings.ckpt_path = None
        if self.settings.get("ckpt_path"):
            path, self.checkpoint = self.folder.read_checkpoint(self.settings.ckpt_path)
            self.settings.ckpt_path = str(path.resolve())

    # Preflight: what can be refused is refused before a file is touched.

    def before_instantiate_classes(self) -> None:
        """Checks settings, files and folder, and prints which weights are evaluated."""
        check_command(self.subcommand, self.settings, self.claim)
        if self.subcommand not in {"check", "fit"}:
            log.log(RESULT, "%s: %s", self.subcommand, self._weights_in_words())

    def _weights_in_words(self) -> str:
        if self.checkpoint is None:
            return f"the weights of base model {self.settings.model.base_model}, no checkpoint"
        words = (
            f"the weights of checkpoint {self.settings.ckpt_path} "
            f"(step {self.checkpoint['global_step']}, epoch {self.checkpoint['epoch']})"
        )
        folder = RunFolder(Path(self.settings.ckpt_path).parent.parent)
        is_best = Path(self.settings.ckpt_path) == folder.best_checkpoint.resolve()
        if is_best and (differs := how_best_model_differs(folder.metrics)):
            words += (
                f". best_model {differs}: evaluate it with --base_model {folder.best_model} and "
                "without --ckpt_path"
            )
        return words

    def instantiate_classes(self) -> None:
        """Makes model, data and Trainer; a setting that one of them refuses is wrong input."""
        try:
            super().instantiate_classes()
        except InputError as error:
            if self.subcommand == "check":  # a report on the file needs no model
                from embedft.check.check import check_file  # the charts' library is large

                data = self.settings.data
                check_file(data.input_jsonl, data.positive, self.settings.html, error)
            raise
        except (EmbedftError, OSError):
            raise
        except Exception as error:  # whatever a class that is not ours raises
            if out_of_memory(error):
                raise
            reason = root_cause(error)
            hint = "; use --accelerator auto" if "backend found" in reason else ""
            raise InputError(reason + hint) from error
        if self.checkpoint is not None:
            path = Path(self.settings.ckpt_path)
            check_weights(self.subcommand, self.model, self.checkpoint, path)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Adds the callbacks that make the files of a run."""
        configured = self._get(self.config_init, "trainer", default={})
        check_trainer(configured)
        callbacks = list(configured.get("callbacks") or [])
        check_monitors(callbacks, self.model)
        if self.subcommand == "fit":
            self.metrics_log = MetricsLog(self.folder)
            checkpoints = RunCheckpoints(
                self.folder,
                self.metrics_log.evaluations,
                self.settings.save_steps,
                self.settings.save_total_limit,
            )
            early_stopping = ResumableEarlyStopping()
            callbacks = [early_stopping, *callbacks, self.metrics_log]
            callbacks += [checkpoints, StopOnSignal(checkpoints)]
            if configured.get("logger") is None:
                kwargs["logger"] = RunTensorBoard(self.folder.logs)
        else:
            kwargs["logger"] = configured.get("logger") or False
            kwargs["enable_checkpointing"] = False
        if self.subcommand == "predict":
            callbacks.append(PredictionWriter(predictions_folder(self.folder)))
        plugins = configured.get("plugins") or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        trainer = super().instantiate_trainer(
            callbacks=callbacks,
            plugins=[*plugins, AtomicCheckpointIO()],
            default_root_dir=self.settings.output_dir,
            **kwargs,
        )
        trainer.asked_callbacks = callbacks_in_words(self.settings)  # type: ignore[attr-defined]
        return trainer

    def before_fit(self) -> None:
        """Reads the data and checks the run; then makes the folder."""
        with ending_at_once(self.folder.what_next):
            self._read_and_claim()

    def _read_and_claim(self) -> None:
        self.datamodule.load(self.model.encoder, self.model.loss.needs_labels)
        self.datamodule.trainer = self.trainer  # it knows how many devices share a batch
        check_run(self.trainer, self.model, self.datamodule, self.checkpoint)
        if not self.trainer.is_global_zero:
            return
        counts = self.datamodule.fit_data.counts
        self.claim.take()
        with self._left_clean():
            # First of all: it tells that the folder is a run's.
            self.metrics_log.begin(
                {
                    "base_model": self.settings.model.base_model,
                    "num_epochs": self.trainer.max_epochs,
                    **{name: counts[name] for name in ("train_examples", "eval_examples")},
                }
            )
            self.claim.prepare()
            log_to_file(self.folder.log_file)

    # Run: what LightningCLI calls instead of the Trainer's own methods.

    def fit(self, **settings: Any) -> None:
        """Trains."""
        if settings.get("ckpt_path"):  # would evaluate these weights as the base model
            self.trainer.num_sanity_val_steps = 0
        with self._left_clean(), ending_at_once(self.folder.what_next):
            self.trainer.fit(**settings)

    @contextmanager
    def _left_clean(self) -> Iterator[None]:
        """After an error the next run of this process finds nothing of this one.

        Raises:
            InputError: The checkpoint can't be restored.
        """
        try:
            yield
        except BaseException as error:
            self.model.forget_cast_weights()
            self.claim.release()
            if refused := restoring_error(self.trainer, self.settings.ckpt_path, error):
                raise refused from error
            raise

    def after_fit(self) -> None:
        """Evaluates the last weights if needed, exports best and last, prints the table."""
        try:
            with self._left_clean(), ending_at_once(lambda: _TO_EXPORT):
                finish_run(
                    Run(
                        self.trainer,
                        self.model,
                        self.datamodule,
                        self.folder,
                        self.metrics_log,
                        hyperparameters(self.trainer, self.model, self.datamodule, self.settings),
                        Path(self.settings.report or self.folder.report),
                    )
                )
        except (Exception, SIGTERMException) as error:
            progress = getattr(self.metrics_log, "progress", {})
            if "failure" not in progress:  # Lightning did not call it
                self.metrics_log.on_exception(self.trainer, self.model, error)
            if isinstance(error, SIGTERMException):  # in one of the evaluations
                raise StoppedError(signal.SIGTERM, _TO_EXPORT) from None
            raise
        finally:
            self.claim.release()

    def test(self, **settings: Any) -> None:
        """Evaluates, prints one table, and writes a page."""
        with self._left_clean():
            self.trainer.test(**settings, verbose=False)
            self._report_evaluation()

    def validate(self, **settings: Any) -> None:
        """Evaluates, prints one table, and writes a page if ``--report`` names one."""
        with self._left_clean():
            self.trainer.validate(**settings, verbose=False)
            self._report_evaluation()

    def predict(self, **settings: Any) -> None:
        """Writes embeddings."""
        with self._left_clean():
            self.trainer.predict(**settings)

    def _report_evaluation(self) -> None:
        settings = {"measured": self._weights_in_words(), "precision": self.trainer.precision}
        evaluate_and_report(
            self.trainer,
            self.model,
            self.datamodule,
            self.checkpoint["global_step"] if self.checkpoint else None,
            settings,
            self._page(),
        )

    def _page(self) -> Path | None:
        """The page to write; by default only ``test`` of a run's own checkpoint writes one."""
        if self.settings.report:
            return Path(self.settings.report)
        checkpoint = self.settings.ckpt_path
        of_run = checkpoint and Path(checkpoint).parent == self.folder.checkpoints.resolve()
        return self.folder.test_report if self.subcommand == "test" and of_run else None


def _seed(seed_everything: bool | int) -> int:
    return 42 if isinstance(seed_everything, bool) else seed_everything
