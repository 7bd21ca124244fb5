"""Where artifacts and run directories lie below the data directory."""

from pathlib import Path

from django.conf import settings


def data_dir() -> Path:
    """Return the folder below which everything lies."""
    return Path(settings.DATA_DIR)


def artifact_path(digest: str) -> str:
    """Return where the artifact of this digest lies, relative to the data directory."""
    return f"artifacts/{digest[:2]}/{digest}"


def run_path(run_id: int) -> Path:
    """Return the folder of a run."""
    return data_dir() / "runs" / str(run_id)
