"""Weights & Biases as a logger of a run: one wandb run however often it is resumed, offline without a key."""

import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]
from lightning.pytorch.utilities import rank_zero_info

from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.runs.run_logger import RunLogger

WANDB_PROJECT: Final = "lgn-lightning"
#: File in the run's folder with the id of its wandb run, for when it is resumed.
WANDB_ID: Final = "wandb_run_id"
#: Seconds that the service may take to answer before a run is logged offline; wandb itself waits for 90.
_REACH_SECONDS: Final = 5.0
#: Seconds after which logged values are in wandb's file, where a kill does not lose them.
_FLUSH_SECONDS: Final = 1.0


class RunWandbLogger(WandbLogger):
    """Weights & Biases, with its files in the run's folder and one wandb run for all parts of a resumed run.

    The project is ``lgn-lightning`` or that of ``WANDB_PROJECT``; in a sweep the run is the one that the agent started.
    Without a key, or when the service cannot be reached, the run is kept offline, after a message that says how to
    upload it.
    """

    def __init__(self, run: RunLogger) -> None:
        super().__init__(project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT))
        self._wandb_init.pop("anonymous", None)  # Lightning gives None, and wandb warns that it has no effect
        self._run = run

    @property
    def save_dir(self) -> str:
        return self._run.log_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._start()
        return self._experiment

    def finish(self, exit_code: int) -> None:
        """Ends the wandb run, so that another training in this process starts its own."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)

    def _start(self) -> None:
        import wandb  # an extra

        folder = Path(self._run.log_dir)
        self._id = _run_id(folder)
        self._name = f"{self._run.name}/{folder.name}"
        self._wandb_init |= {"dir": str(folder), "id": self._id, "name": self._name, "group": self._run.name}
        if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
            # A kill loses what is not in the file, by default the last 15 seconds.
            self._wandb_init["settings"] = wandb.Settings(x_transaction_log_flush_interval=_FLUSH_SECONDS)
        upload = f"upload it later with:  wandb sync {folder / 'wandb' / 'offline-run-*'}"
        if "WANDB_MODE" not in os.environ:
            reason = _why_offline()
            if reason is not None:
                rank_zero_info(f"{reason}: this run is logged offline; {upload}")
                self._wandb_init["mode"] = "offline"
        try:
            super().experiment  # noqa: B018 - the property makes the run
        except wandb.errors.Error as error:
            reason = str(error).strip().split("\n")[0]
            rank_zero_info(f"wandb cannot log online ({reason}): this run is logged offline; {upload}")
            wandb.teardown()  # its service still holds the run that did not start
            self._wandb_init["mode"] = "offline"
            super().experiment  # noqa: B018


def _run_id(folder: Path) -> str:
    file = folder / WANDB_ID
    if not file.is_file():
        # The agent of a sweep has made the run already.
        atomic_write_text(file, os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))
    return file.read_text(encoding="utf-8")


def _why_offline() -> str | None:
    """Why a run cannot be logged online; None if it seems that it can."""
    import wandb  # an extra

    try:
        if not wandb.login(prompt=False, verify=False):
            return "there is no wandb key (`wandb login` stores one)"
    except wandb.errors.Error as error:
        return f"wandb takes no key ({str(error).strip()})"
    address = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(address, timeout=_REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # an answer, whatever it says
    except OSError as error:
        return f"{address} cannot be reached ({getattr(error, 'reason', error)})"
    return None
