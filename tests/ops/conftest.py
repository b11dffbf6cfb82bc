"""Native kernels for the tests of ops: only a machine without a compiler goes without them."""

import os
import shutil

import pytest

from lgn_lightning.base import native_build
from lgn_lightning.ops import loader


@pytest.fixture(scope="session")
def native_cpu() -> None:
    """Loads the native CPU kernels. A compiler that cannot build them fails the tests: that is what they look for."""
    if not os.environ.get("CXX") and not any(map(shutil.which, native_build._COMPILERS)):
        pytest.skip("no C++ compiler")
    loader.require("cpu")


@pytest.fixture(scope="session")
def asked_backend(request: pytest.FixtureRequest) -> None:
    """The native CPU kernels, unless ``LGN_BACKEND=torch`` asks for the reference: tests that hold for both."""
    if os.environ.get("LGN_BACKEND") != "torch":
        request.getfixturevalue("native_cpu")


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def native_device(request: pytest.FixtureRequest) -> str:
    """Each device that has native kernels, with them: for tests that hold for all."""
    if request.param == "cpu":
        request.getfixturevalue("native_cpu")
    else:
        loader.require("cuda")
    return str(request.param)
