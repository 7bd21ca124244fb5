"""A bound on what one request may send: it is refused before anything of it is read."""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler

from annotation.services.uploading import MAX_UPLOAD_BYTES

MAX_REQUEST_BYTES = MAX_UPLOAD_BYTES + 2**20
"""The largest file, with what stands around it."""


class BoundedUploadHandler(FileUploadHandler):
    """Refuses requests that are too large, and leaves all others to the handlers after it."""

    def handle_raw_input(
        self,
        input_data: Any,  # noqa: ANN401, ARG002 - Django's own signature
        META: dict[str, Any],  # noqa: N803, ARG002
        content_length: int,
        boundary: Any,  # noqa: ANN401, ARG002
        encoding: str | None = None,  # noqa: ARG002
    ) -> None:
        """Look at the length that the request states.

        Raises:
            RequestDataTooBig: It is above the bound.
        """
        if content_length > MAX_REQUEST_BYTES:
            raise RequestDataTooBig(
                f"{content_length:,} bytes are more than {MAX_REQUEST_BYTES:,} in one request"
            )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:  # noqa: ARG002
        """Pass it on."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Make no file: the handlers after it do."""
