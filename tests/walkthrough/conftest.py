"""One small world for every walk."""

import pytest

from tests.walkthrough.sandbox import SandboxModels, train_sandbox_models


@pytest.fixture(scope="session")
def sandbox_models(tmp_path_factory: pytest.TempPathFactory) -> SandboxModels:
    """Base, SFT and two reward models of the sandbox."""
    return train_sandbox_models(tmp_path_factory.mktemp("sandbox"))
