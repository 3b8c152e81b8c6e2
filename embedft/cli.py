"""The command line: LightningCLI with short flags, older configs and one-line errors."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from embedft import __version__
from embedft.arguments import SHORT_FLAGS, complete_switches, expand_arguments, explain
from embedft.checkpoint import load_weights
from embedft.data.datamodule import EmbeddingDataModule
from embedft.errors import EmbedftError, InputError, RunFailedError, StoppedError
from embedft.files import replacing_file
from embedft.mining import mine
from embedft.outcome import finish_run
from embedft.publishing import export
from embedft.run_folder import RunFolder
from embedft.run_log import log_to_file, start_log
from embedft.training.checkpoints import RunCheckpoints
from embedft.training.guard import guard_data
from embedft.training.module import EmbeddingModule
from embedft.training.predictions import PredictionWriter
from embedft.training.run_files import RunFiles
from embedft.training.stopping import StopOnSignal
from embedft.training.trainer import AtomicCheckpointIO, EmbedftTrainer

DESCRIPTION = """\
Fine-tune a sentence-embedding model on question/answer pairs, and measure it beside its base.

  python -m embedft fit     --input_jsonl pairs.jsonl --output_dir out
  python -m embedft fit     --input_jsonl pairs.jsonl --output_dir out --ckpt_path last
  python -m embedft test    --input_jsonl pairs.jsonl --output_dir out --ckpt_path best
  python -m embedft predict --input_jsonl pairs.jsonl --base_model out/best_model --output_dir emb
  python -m embedft export  --ckpt_path out/checkpoints/best.ckpt --output_dir folder
  python -m embedft export  --model out/best_model --push_to_hub ORG/NAME --dry_run
  python -m embedft mine    --input_jsonl pairs.jsonl --output_jsonl mined.jsonl

Settings can also stand in a YAML file, --config FILE; flags after it win. A subcommand followed by
--help lists them all, followed by --print_config it prints them as a YAML file.
"""

SUBCOMMANDS = {
    "fit": "Train, measuring the base model first and the tuned one as it grows; export best and "
    "last weights.",
    "validate": "Measure the held-out questions of a set, logged as val/...; nothing is written.",
    "test": "Measure the held-out questions of a set, logged as test/...; nothing is written.",
    "predict": "Write the embeddings of a file's questions and answers as .npy, with an ids file.",
}

SHORT_FLAGS_HELP = """

Short flags, each the same as the dotted one below:
""" + "\n".join(f"  --{short:17} --{dotted}" for short, dotted in SHORT_FLAGS.items())

TRAINER_DEFAULTS = {
    "max_epochs": 3,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": -1,  # all of it: this is how the base model is measured
    "reload_dataloaders_every_n_epochs": 1,  # each epoch has batches of its own
    "use_distributed_sampler": False,  # the batch plan shares out the rows itself
    "enable_model_summary": False,  # the encoder says its size in one line
}


# Retrieval is measured on all texts or not at all.
WHOLE = {
    "fast_dev_run": False,
    "overfit_batches": 0.0,
    "limit_val_batches": None,
    "limit_test_batches": None,
}


class HelpFormatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


class SaveConfig(SaveConfigCallback):
    """Writes the resolved ``config.yaml`` of a fit into the output folder."""

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Replaces an earlier one: whether the folder may be used was decided before."""
        if stage != "fit":
            return
        text = self.parser.dump(self.config, skip_unset=False)
        with replacing_file(Path(self.config.output_dir) / "config.yaml") as temporary:
            temporary.write_text(text, encoding="utf-8")


class EmbedftCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` of one module and one datamodule."""

    model: EmbeddingModule
    datamodule: EmbeddingDataModule

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what belongs to a run as a whole."""
        parser.add_argument("--output_dir", type=str, default="out", help="Folder of the run.")
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            help="Delete the files of an earlier run in output_dir and start anew.",
        )
        parser.add_argument(
            "--save_steps",
            type=int,
            default=100,
            help="Steps between two writes of checkpoints/last.ckpt.",
        )
        parser.add_argument(
            "--save_total_limit",
            type=int,
            default=2,
            help="How many of checkpoints/last.ckpt and the step-N.ckpt before it are kept.",
        )
        parser.set_defaults({"model.loss": {"class_path": "MultipleNegativesRankingLoss"}})
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, and turns ``best`` and ``last`` into files of the output folder."""
        super().parse_arguments(parser, args)
        self.settings = self.config[self.config.subcommand]
        self.folder = RunFolder(Path(self.settings.output_dir))
        if self.config.subcommand == "fit" and (saved := self.folder.requeued()):
            self.settings.ckpt_path = str(saved)  # Lightning would take it whatever is asked for
        if self.settings.get("ckpt_path"):
            path, self.checkpoint = self.folder.read_checkpoint(self.settings.ckpt_path)
            self.settings.ckpt_path = str(path.resolve())

    def before_instantiate_classes(self) -> None:
        """Says what is measured, and refuses a folder that holds another run."""
        if self.subcommand == "fit":
            self.folder.check_free(self.settings.ckpt_path, self.settings.overwrite)
        else:
            print(f"{self.subcommand}: {self._weights_in_words()}", flush=True)

    def _weights_in_words(self) -> str:
        if not self.settings.ckpt_path:
            return f"the weights of base model {self.settings.model.base_model}, no checkpoint"
        return (
            f"the weights of checkpoint {self.settings.ckpt_path} "
            f"(step {self.checkpoint['global_step']}, epoch {self.checkpoint['epoch']})"
        )

    def instantiate_classes(self) -> None:
        """Makes model, data and trainer; a setting that one of them refuses is wrong input."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise InputError(str(cause)) from error
        if self.settings.ckpt_path:  # Lightning does it again; here a misfit is one clear line
            load_weights(self.model.encoder, self.checkpoint, Path(self.settings.ckpt_path))

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Adds the callbacks that make the files of a run."""
        configured = self._get(self.config_init, "trainer", default={})
        for name, whole in WHOLE.items():
            if configured[name] != whole:
                raise InputError(
                    f"trainer.{name}: leaves out texts to measure; leave the setting out (for a "
                    "short try use --trainer.max_steps 5)"
                )
        callbacks = list(configured.get("callbacks") or [])
        if self.subcommand == "fit":
            self.run_files = RunFiles(self.settings.output_dir)
            for name in ("save_steps", "save_total_limit"):
                if self.settings[name] < 1:
                    raise InputError(f"{name}: is {self.settings[name]}, must be at least 1")
            checkpoints = RunCheckpoints(
                self.folder.checkpoints,
                self.run_files,
                self.settings.save_steps,
                self.settings.save_total_limit,
            )
            callbacks += [self.run_files, checkpoints, StopOnSignal(checkpoints)]
            if configured.get("logger") is None:
                kwargs["logger"] = self.folder.tensorboard()
        else:
            kwargs["logger"] = configured.get("logger") or False
            kwargs["enable_checkpointing"] = False
        if self.subcommand == "predict":
            callbacks.append(PredictionWriter(self.settings.output_dir))
        plugins = configured.get("plugins") or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        return super().instantiate_trainer(
            callbacks=callbacks,
            plugins=[*plugins, AtomicCheckpointIO()],
            default_root_dir=self.settings.output_dir,
            **kwargs,
        )

    # Around fit: everything that can go wrong with the input goes wrong before a file is touched.

    def before_fit(self) -> None:
        """Reads the data, then makes the folder."""
        self.datamodule.load(self.model.encoder, self.model.loss.needs_labels)
        if self.datamodule.guard_jsonl is not None:
            guard_data(self.datamodule).load(self.model.encoder, False, "test")
        if not self.trainer.is_global_zero:
            return
        self.folder.lock()
        if self.settings.ckpt_path is None:
            self.folder.clear(self.settings.overwrite)
        self.folder.make()
        log_to_file(self.folder.log_file)
        self.run_files.begin(
            {
                "base_model": self.settings.model.base_model,
                "num_epochs": self.trainer.max_epochs,
                "train_examples": self.datamodule.report["train_examples"],
                "eval_examples": self.datamodule.report["eval_examples"],
            }
        )

    def after_fit(self) -> None:
        """Measures the last weights if nobody has, exports best and last, prints the table."""
        try:
            finish_run(
                self.trainer,
                self.model,
                self.datamodule,
                self.folder,
                self.run_files,
                self._hyperparameters(),
            )
        except Exception as error:
            self.run_files.on_exception(self.trainer, self.model, error)
            raise
        finally:
            self.folder.unlock()

    def _hyperparameters(self) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "loss": f"{type(self.model.loss).__name__} "
            f"{dict(self.settings.model.loss.get('init_args') or {})}",
            "epochs": trainer.max_epochs,
            "batch_size": self.datamodule.batch_size * trainer.world_size,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "learning_rate": self.model.learning_rate,
            "weight_decay": self.model.weight_decay,
            "warmup_steps": self.model.warmup_steps,
            "base_share": self.model.base_share,
            "gradient_clip_val": trainer.gradient_clip_val,
            "precision": trainer.precision,
            "seed": self.datamodule.seed,
            "split_seed": self.datamodule.split_seed,
            "train_split": self.datamodule.train_split,
            "positive": self.datamodule.positive,
            "topic_batches": self.datamodule.topic_batches,
        }


def _seed(seed_everything: bool | int) -> int:
    return 42 if isinstance(seed_everything, bool) else seed_everything


# Subcommands that need no trainer of the user's, and what they do in words.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "export": (
        export,
        "Write the sentence-transformers folder of a checkpoint, as ONNX too; put it on the hub.",
    ),
    "mine": (mine, "Find, for each question of a file, the wrong answers that a model ranks high."),
}


def _command(name: str, args: list[str]) -> None:
    function, description = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"python -m embedft {name}", exit_on_error=False, description=description
    )
    parser.add_function_arguments(function)
    function(**parser.parse_args(args).as_dict())


def main(args: list[str] | None = None) -> None:
    """Runs a command line; wrong input ends with one clear line and exit status 2."""
    arguments = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    start_log()
    try:
        if arguments[0] in COMMANDS:
            _command(arguments[0], complete_switches(arguments[1:]))
            return
        EmbedftCLI(
            EmbeddingModule,
            EmbeddingDataModule,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_class=EmbedftTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=42,
            load_from_checkpoint_support=False,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "python -m embedft",
                "description": DESCRIPTION,
                "formatter_class": HelpFormatter,
                "exit_on_error": False,
                "version": __version__,
                **{
                    name: {
                        "usage": f"python -m embedft {name} [--config FILE] [--flag VALUE ...]",
                        "description": description + SHORT_FLAGS_HELP,
                        "formatter_class": HelpFormatter,
                        "exit_on_error": False,
                    }
                    for name, description in SUBCOMMANDS.items()
                },
            },
            args=expand_arguments(arguments),
        )
    except ArgumentError as error:
        _fail(explain(str(error)), InputError.exit_status)
    except StoppedError as error:
        # A rank that ends with an error makes Lightning's launcher kill the others as they save.
        _fail(str(error), 0 if rank_zero_only.rank else error.exit_status)
    except EmbedftError as error:
        _fail(str(error), error.exit_status)
    except MisconfigurationException as error:
        _fail(str(error), InputError.exit_status)
    except OSError as error:
        _fail(str(error), RunFailedError.exit_status)
    except KeyboardInterrupt:
        _fail("stopped by SIGINT before there was anything to save", 128 + signal.SIGINT)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        _fail(
            "out of memory; --model.chunk_size 32 trains the same batch in the memory of 32 texts; "
            "a smaller --batch_size, --eval_batch_size or --max_seq_length takes less too",
            RunFailedError.exit_status,
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, of the machine or of a GPU, was not enough."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The last is how oneDNN says it.
    phrases = ("not enough memory", "can't allocate memory", "could not create a primitive")
    return any(phrase in str(error) for phrase in phrases)


def _fail(message: str, status: int) -> NoReturn:
    print(f"embedft: error: {message}", file=sys.stderr)
    sys.exit(status)
