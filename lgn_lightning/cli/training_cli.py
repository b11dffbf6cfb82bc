"""What ``lgn fit``, ``validate`` and ``test`` run: a LightningCLI around :class:`LogicModule`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lgn_lightning.base.public_names import public_names
from lgn_lightning.base.settings_text import parse_settings, read_text
from lgn_lightning.callbacks import LayerSummary, ResumePoint, StepProgressBar, ThresholdHint
from lgn_lightning.cli.data_sizes import fill_in_sizes
from lgn_lightning.cli.preflight import check_form
from lgn_lightning.cli.quiet import hush
from lgn_lightning.cli.recipe_keys import RUN_KEYS
from lgn_lightning.cli.run_result import record_result
from lgn_lightning.cli.run_session import RunSession, SaveConfig
from lgn_lightning.cli.setting_errors import SettingsParser, named_errors
from lgn_lightning.cli.trained import TrainedNet
from lgn_lightning.data import *  # noqa: F403 - --data=MNIST finds the classes that are imported
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.models import *  # noqa: F403 - likewise
from lgn_lightning.runs.folder import RunFolder
from lgn_lightning.runs.provenance import source_version
from lgn_lightning.runs.recipes import PaperResult
from lgn_lightning.training import ddp as strategies  # noqa: F401 - recipes name its strategy
from lgn_lightning.training.checkpoint import load_weights
from lgn_lightning.training.checkpoint_io import AtomicCheckpointIO
from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.schedule_length import follow_max_steps, follow_rows
from lgn_lightning.training.threads import spare_threads

#: Steps between two drawings of the progress bar, each of which takes about as long as a step of a small net.
REFRESH_RATE = 20


class TrainingCLI(LightningCLI):
    """Runs a recipe.

    Args:
        command: ``fit``, ``validate`` or ``test``.
        recipe: The recipe's YAML file.
        overrides: Further arguments of the command line.
        resume: The run to resume, by its own settings and not by the recipe's.
        trained: What the other commands measure, by the settings of its checkpoint if it has some.
    """

    def __init__(
        self,
        command: str,
        recipe: Path,
        overrides: list[str],
        resume: RunFolder | None = None,
        trained: TrainedNet | None = None,
    ) -> None:
        hush()
        self.source = source_version()  # now: the working tree may change while it trains
        self.session = RunSession(command, recipe.stem, resume, trained)
        if resume is not None:
            checkpoint = str(resume.resume_point) if resume.resume_point.is_file() else "null"
            recipe, overrides = resume.config, [*overrides, f"--ckpt_path={checkpoint}"]
        settings = None if trained is None else trained.settings
        if settings is None:
            settings = read_text(recipe)
            check_form(parse_settings(settings, recipe), recipe)  # before a reader of less patience
        if trained is not None:
            # Not where the training logged, unless asked for.
            overrides = ["--logger=csv", *overrides, f"--ckpt_path={trained.chosen.path}"]
        overrides = [public_names(text) for text in overrides]
        self._recipe, self._overrides = recipe, overrides
        # The parsers of the other commands take as long to build as a short training.
        asked = {command: LightningCLI.subcommands()[command]}
        self.subcommands = lambda: asked  # type: ignore[method-assign]
        super().__init__(
            LogicModule,
            SampleDataModule,
            subclass_mode_data=True,
            args=[command, "--config", public_names(settings), *overrides],
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"session": self.session},
            parser_class=SettingsParser,
            auto_configure_optimizers=False,  # the module takes its optimizer as an argument
            load_from_checkpoint_support=False,  # the module has its own, by its recipe
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what a recipe says about the paper, and where a run leaves and logs its results."""
        parser.add_argument("--paper", type=PaperResult, default=PaperResult(), help="figures that the recipe aims at")
        parser.add_argument("--logger", type=str | list[str], default="csv", help=RUN_KEYS["logger"].help)
        parser.add_argument("--run_name", type=str | None, default=None, help=RUN_KEYS["run_name"].help)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer with the run's loggers, and with checkpoints that a kill cannot damage."""
        config = self.config[self.subcommand]
        kwargs |= self.session.trainer_arguments(config)
        given = [c.class_path.rsplit(".", 1)[-1] for c in config.trainer.callbacks or ()]
        defaults: list[Callback] = [kind() for kind in (ResumePoint, ThresholdHint) if kind.__name__ not in given]
        if config.trainer.enable_progress_bar is not False and not any(name.endswith("ProgressBar") for name in given):
            defaults.append(StepProgressBar(refresh_rate=REFRESH_RATE))
        if config.trainer.enable_model_summary is not False and not any(name.endswith("Summary") for name in given):
            defaults.append(LayerSummary())
        self.trainer_defaults["callbacks"] = defaults
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the given arguments; the base class would warn that they are not ``sys.argv``."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        if self.config.subcommand == "fit" and config.ckpt_path is None:  # a checkpoint holds its schedule
            follow_max_steps(self._recipe, self._overrides, config)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: the base class would take arguments of the model from the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Checks folder and checkpoint before minutes are spent on data and nets."""
        self.session.check(self.config[self.subcommand])

    def instantiate_classes(self) -> None:
        """Builds trainer, module and data, and tells the module its recipe."""
        config = self.config[self.subcommand]
        if isinstance(config.trainer.callbacks, Namespace):  # one alone, as Lightning takes it, too
            config.trainer.callbacks = [config.trainer.callbacks]
        with self.session.measuring(), named_errors(config):
            data = fill_in_sizes(config)
            if self.subcommand == "fit" and config.ckpt_path is None:
                follow_rows(data, config)
            super().instantiate_classes()
        if data is not None:  # it has been read
            self.datamodule = data
        self.model.recipe = public_names(self._parser(self.subcommand).dump(config, skip_unset=False))

    def _run_subcommand(self, subcommand: str) -> None:
        # Checkpoints hold tensors and plain values: nothing else is ever unpickled.
        self.config_init[subcommand]["weights_only"] = True
        trained = self.session.trained
        if trained is not None:  # its weights are all that is read of a checkpoint
            content = {"state_dict": trained.weights}
            self.model.on_load_checkpoint(content)
            load_weights(self.model, content["state_dict"], trained.chosen.path)
            self.config_init[subcommand]["ckpt_path"] = None
        config = self.config[subcommand]
        with self.session.measuring(), self.session.running(self.trainer), named_errors(config):
            super()._run_subcommand(subcommand)

    @property
    def _rehearses(self) -> bool:
        return bool(self.config[self.subcommand].trainer.fast_dev_run)

    def before_fit(self) -> None:
        """Chooses the threads, and finds out before training whether there is a test split."""
        spare_threads(self.trainer, self.model.net, self.datamodule.batch_size)
        if not self._rehearses and not self.datamodule.has_test:
            self.datamodule.setup("test")  # says what is missing

    def after_fit(self) -> None:
        """Tests the checkpoint that validation chose, once, and prints the result."""
        if self._rehearses or self.trainer.interrupted:
            return
        seed = self.config[self.subcommand].seed_everything
        origin = {"recipe": self.session.recipe, "seed": seed, "commit": self.source}
        record_result(self.trainer, self.model, self.datamodule, origin)
