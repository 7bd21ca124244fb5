"""Every test of the web has a data folder of its own; people come signed in."""

from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from annotation.models import User
from tests.factories import make_admin, make_annotator, make_lead, make_reviewer


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, settings: Settings) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Hash passwords once instead of a million times."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def signed_in(user: User, *, checks_csrf: bool = False) -> Client:
    """Return a browser in which `user` is signed in."""
    client = Client(enforce_csrf_checks=checks_csrf)
    client.force_login(user)
    return client


@pytest.fixture
def annotator(db: None) -> User:
    return make_annotator("ana")


@pytest.fixture
def lead(db: None) -> User:
    return make_lead("maria")


@pytest.fixture
def annotator_client(annotator: User) -> Client:
    return signed_in(annotator)


@pytest.fixture
def lead_client(lead: User) -> Client:
    return signed_in(lead)


@pytest.fixture
def reviewer_client(db: None) -> Client:
    return signed_in(make_reviewer("remy"))


@pytest.fixture
def admin_client(db: None) -> Client:
    return signed_in(make_admin("root"))
