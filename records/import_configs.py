"""The configuration of bringing in a policy that others made."""

from dataclasses import dataclass

from records.fields import bounded
from records.hub_names import check_hub_name, check_revision
from records.run_configs import RunConfig


@dataclass(frozen=True, kw_only=True)
class ImportConfig(RunConfig):
    """Bring in a Llama of the Hugging Face hub, to be a policy version like any other.

    Inputs: none. Outputs: `policy`, with the weights as they lie there.
    """

    num_processes: int = bounded(1, low=1, high=1)
    """One process brings it in."""
    hub_name: str = "meta-llama/Llama-2-7b-chat-hf"
    """Its name on the hub. A gated model asks for its licence to be accepted there, and for the
    token of who accepted it in the worker's environment, as HF_TOKEN."""
    revision: str = "main"
    """Branch, tag or commit of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hub_name("hub_name", self.hub_name)
        check_revision("revision", self.revision)
