"""The form that brings in a policy of the Hugging Face hub."""

from collections.abc import Mapping
from typing import Any, cast

from django import forms

from records.import_configs import ImportConfig
from webapp.forms.configs import ConfigForm

_SHOWN = frozenset({"hub_name", "revision"})


class ImportForm(ConfigForm):
    """What the policy is called there, and what it is to be called here."""

    config_type = ImportConfig
    left_out = frozenset(doc.name for doc in ImportConfig.describe()) - _SHOWN

    output_name = forms.CharField(
        label="Name here", max_length=80, help_text="Of the policy version, such as Llama 2 chat."
    )

    field_order = ("hub_name", "revision", "output_name")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.order_fields(self.field_order)
        self.fields["hub_name"].required = True
        self.fields["revision"].required = True

    @property
    def config(self) -> ImportConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(ImportConfig | None, self.build_config())
