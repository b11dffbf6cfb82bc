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
