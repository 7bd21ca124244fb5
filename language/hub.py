"""Models by name: those of the Hugging Face hub are downloaded once, into the cache of HF_HOME."""

from pathlib import Path

import httpx2
from huggingface_hub import constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from records.errors import ExplainedError
from records.hub_names import is_hub_name

FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
"""What is needed of a model; no code of theirs is ever fetched."""
_OTHERS = (
    "Or bring its folder to this machine and register that: "
    "python manage.py register_policy NAME FOLDER"
)


class HubError(ExplainedError):
    """A model of the hub cannot be had; says why, and what to do."""


def model_folder(path_or_name: str | Path, *, revision: str = "main") -> Path:
    """Return the folder of a model: the one that is named, or that of a name on the hub.

    Raises:
        FileNotFoundError: There is no such folder, and no model is called so.
        HubError: The model cannot be had.
    """
    path, name = Path(path_or_name), str(path_or_name)
    if path.exists():
        return path
    if not is_hub_name(name):
        raise FileNotFoundError(f"{name}: there is no such folder, and it is no name on the hub")
    return downloaded(name, revision)


def downloaded(name: str, revision: str) -> Path:
    """Return the folder of a model in the cache, downloaded as far as it is not there yet.

    The last part of its path is the commit.

    Raises:
        HubError: The model cannot be had; says why, and what to do.
    """
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(FILES))
    except GatedRepoError as error:
        raise HubError(_gated(name)) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{name} has no branch, tag or commit {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"the hub has no model {name}, or shows it to some accounts alone. Look at the "
            "spelling; for a private model set HF_TOKEN in the worker's environment, and try again"
        ) from error
    except (LocalEntryNotFoundError, IncompleteSnapshotError) as error:
        raise HubError(_out_of_reach(name, error)) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise HubError(
            f"{name} could not be downloaded ({type(error).__name__}: {first_line}). What has come "
            f"is kept: try again, and it goes on from there. {_OTHERS}"
        ) from error
    return Path(folder)


def _gated(name: str) -> str:
    page = f"{constants.ENDPOINT}/{name}"
    if get_token():
        return (
            f"{name} is gated, and the account of the worker's HF_TOKEN has no access to it. Sign "
            f"in with that account, accept the licence on {page}, wait until access is granted "
            "there, and try again"
        )
    return (
        f"{name} is gated, and the worker has no token. Accept the licence on {page}, make a token "
        f"that may read at {constants.ENDPOINT}/settings/tokens, set HF_TOKEN to it in the "
        "worker's environment, restart the worker, and try again"
    )


def _out_of_reach(name: str, error: Exception) -> str:
    cache = constants.HF_HUB_CACHE
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set, so the hub is not asked"
    else:
        reason = f"the hub at {constants.ENDPOINT} does not answer"
    state = "only in part" if isinstance(error, IncompleteSnapshotError) else "not"
    return (
        f"{name} is {state} in {cache}, and {reason}. Give the worker the network, or run "
        f"`hf download {name}` where there is one and bring the folder models--"
        f"{name.replace('/', '--')} into {cache}; then try again. {_OTHERS}"
    )
