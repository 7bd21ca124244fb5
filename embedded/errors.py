"""What can go wrong with the embedded services, said so that the reader knows what to do next."""


class ServiceError(RuntimeError):
    """An embedded service could not be started; the message says why and what to do."""
