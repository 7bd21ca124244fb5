"""The borders between the packages hold, and the database follows the models."""

import subprocess
import sys

import pytest
from django.core.management import call_command


def test_every_import_contract_is_kept() -> None:
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_the_training_packages_run_without_django() -> None:
    script = (
        "import sys\n"
        "import evaluation.__main__, policies.__main__, rewardmodels.__main__\n"
        "assert 'torch' in sys.modules\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'django', 'celery', 'redis', 'psycopg2'}, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_web_process_loads_no_torch_and_no_pyarrow() -> None:
    script = (
        "import sys\n"
        "import webapp.wsgi\n"
        "from django.urls import get_resolver\n"
        "assert get_resolver().url_patterns\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'transformers', 'pyarrow', 'scipy', 'pandas'}, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
