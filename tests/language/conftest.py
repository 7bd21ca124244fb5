"""Settings shared by the tests of `language`: one thread, and where real tokenizers lie."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models lose time to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds nothing but a SentencePiece model built like Llama 2's."""
    data = Path(os.environ.get("CONCORD_DATA", ""))
    model = data / "tokenizers" / "mistral-v1" / "tokenizer.model"
    if not os.environ.get("CONCORD_DATA") or not model.exists():
        pytest.skip("CONCORD_DATA does not name a folder with tokenizers/mistral-v1")
    folder = tmp_path_factory.mktemp("sentencepiece")
    shutil.copy(model, folder / "tokenizer.model")
    return folder
