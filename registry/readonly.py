"""The base of admin pages that only show: what they list is written by services."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Model

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Model]
else:
    _Base = admin.ModelAdmin


class ReadOnlyAdmin(_Base):
    """Rows that nobody adds, changes or deletes by hand."""

    show_full_result_count = False

    def has_add_permission(self, *_: object, **__: object) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, *_: object, **__: object) -> bool:
        """Nobody may; who may view sees the page without a form."""
        return False

    def has_delete_permission(self, *_: object, **__: object) -> bool:
        """Nobody may."""
        return False
