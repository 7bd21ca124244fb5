"""Errors of the registry: each says what happened and what to do next."""


class RegistryError(Exception):
    """Base of all errors that the registry's services raise."""


class ClaimLostError(RegistryError):
    """The run is no longer this worker's: another one claimed it, or it has ended.

    Attributes:
        run_id: The run.
        state: The state it was found in.
    """

    def __init__(self, run_id: int, state: str) -> None:
        super().__init__(
            f"run {run_id} is {state} and no longer held by this claim; stop and write nothing"
        )
        self.run_id = run_id
        self.state = state


class NameTakenError(RegistryError):
    """Another row already has this name.

    Attributes:
        kind: What was to be named: policy version, reward-model version, snapshot, iteration.
        name: The name.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists already; choose another name")
        self.kind = kind
        self.name = name


class IterationRunningError(RegistryError):
    """A new iteration was asked for while one is still running."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"iteration {name!r} is still running; wait until it ends, or stop it first"
        )
        self.name = name


class TransitionError(RegistryError):
    """A row is not in a state from which the step asked for is possible."""

    def __init__(self, what: str, state: str, wanted: str) -> None:
        super().__init__(f"{what} is {state}; only {wanted} allows this")
        self.state = state


class ArtifactError(RegistryError):
    """Files that cannot become an artifact; names the path."""
