"""What pyproject.toml cannot say: a wheel with libraries in it (``make wheel``) is one of its platform."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

#: Folder of libraries that the wheel takes along, as `lgn build --into` makes it.
CARRIED = os.environ.get("LGN_CARRIED_LIBRARIES")


class BuildPy(build_py):
    """Copies the libraries beside the modules."""

    def run(self) -> None:
        """Runs the command."""
        super().run()
        if CARRIED:
            shutil.copytree(CARRIED, Path(self.build_lib) / "lgn_lightning/prebuilt", dirs_exist_ok=True)


class BdistWheel(bdist_wheel):
    """Names the platform in the wheel's tag; any Python does, as the libraries use none of its interface."""

    def finalize_options(self) -> None:
        """Takes the platform for part of the wheel."""
        super().finalize_options()
        self.root_is_pure = not CARRIED

    def get_tag(self) -> tuple[str, str, str]:
        """Gives Python, interface and platform."""
        python, interface, platform = super().get_tag()
        return ("py3", "none", platform) if CARRIED else (python, interface, platform)


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
