"""Annotation as a Django app."""

from django.apps import AppConfig


class AnnotationConfig(AppConfig):
    """People, rounds and judgements."""

    name = "annotation"
    verbose_name = "Annotation"
