"""Settings: read from the environment, safe by default, the same file in every mode."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from webapp import env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.text("CONCORD_HOME", str(BASE_DIR / ".concord")))
"""Artifacts, run directories and the embedded services' data live here."""

CODE_COMMIT = env.text("CONCORD_COMMIT")
"""Commit of the code in an image; empty in a checkout, where git is asked."""

DEBUG = env.flag("CONCORD_DEBUG")
SECRET_KEY = env.text("CONCORD_SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "CONCORD_SECRET_KEY is not set. `make up` and `make test` make one of their own; "
        "in production set a long random value and keep it secret."
    )
ALLOWED_HOSTS = env.names("CONCORD_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.names("CONCORD_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "webapp.apps.ConcordAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "csp",
    "registry",
    "annotation",
    "workers",
    "webapp.apps.WebappConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "webapp.gatekeeping.SignInMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "webapp.gatekeeping.NotFoundMiddleware",
]
ROOT_URLCONF = "webapp.urls"
WSGI_APPLICATION = "webapp.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.frame.frame",
            ],
        },
    },
    {
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "DIRS": [BASE_DIR / "webapp" / "templates"],
        "OPTIONS": {"environment": "webapp.parts.environment"},
    },
]

AUTH_USER_MODEL = "annotation.User"
AUTHENTICATION_BACKENDS = ["webapp.signing_in.Backend"]
SESSION_ENGINE = "webapp.sessions"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]


def _database(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgres://user:password@host:port/name. "
            "Without a server of your own, start through `make`, which brings one."
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": parts.port or "",
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _database(env.text("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.text("REDIS_URL")

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "cpu"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 6 * 3600}
CELERY_TASK_ROUTES = {
    "workers.execute_run": {"queue": "gpu"},
    "workers.sample_waiting_comparisons": {"queue": "sampling"},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")

RUN_LAUNCHER = env.text("CONCORD_RUN_LAUNCHER", "torchrun")
"""`torchrun`, or `direct` for runs of one process: saves torchrun's own start, two seconds."""
RUN_PROCESSES = env.whole_number("CONCORD_RUN_PROCESSES", 1, low=1)
"""Processes of a run whose config leaves `num_processes` open: the GPUs it may use on its host."""
RUN_HEARTBEAT_SECONDS = env.whole_number("CONCORD_RUN_HEARTBEAT_SECONDS", 4, low=1)
"""Time between two heartbeats of the supervisor of a run."""
RUN_STALE_SECONDS = env.whole_number("CONCORD_RUN_STALE_SECONDS", 20, low=2)
"""A run whose heart has not beaten for so long may be claimed by another worker."""
RUN_GRACE_SECONDS = env.whole_number("CONCORD_RUN_GRACE_SECONDS", 60, low=1)
"""Time between SIGTERM, on which a run saves a checkpoint, and SIGKILL."""
MAINTENANCE_SECONDS = env.whole_number("CONCORD_MAINTENANCE_SECONDS", 5, low=1)
"""How often beat looks for lost runs, waiting iterations, expired leases and waiting prompts."""
SAMPLING_ROWS = env.whole_number("CONCORD_SAMPLING_ROWS", 256, low=2)
"""Responses that the sampler generates at once, at most."""
SAMPLING_POLICIES = env.whole_number("CONCORD_SAMPLING_POLICIES", 3, low=1)
"""Policies that the sampler keeps loaded."""
SAMPLING_DTYPE = env.text("CONCORD_SAMPLING_DTYPE", "float32")
"""Floating-point type of the policies that the sampler loads: float32 or bfloat16."""
SAMPLING_THREADS = env.whole_number("CONCORD_SAMPLING_THREADS", 0)
"""CPU threads of the sampler; 0 leaves the choice to torch."""
SAMPLING_SERVERS = env.names("CONCORD_SAMPLING_SERVERS")
"""Servers, by their names in the file of `CONCORD_GENERATION_SERVERS`, that the sampler asks for
the policies they hold; the others it samples itself."""
RESPONSE_FLOOR_MS = env.whole_number("CONCORD_RESPONSE_FLOOR_MS", 1500, low=0)
"""Milliseconds between a prompt and its pair, at least: a quick pair looks like any other."""
PREFETCH = env.flag("CONCORD_PREFETCH", default=True)
"""Whether pairs of imported dialogues are drawn ahead for both choices, while somebody reads."""
PREFETCH_ROWS = env.whole_number("CONCORD_PREFETCH_ROWS", 32, low=2)
"""Responses drawn ahead at once, at most: who begins to wait meanwhile waits for these."""
CELERY_BEAT_SCHEDULE = {
    task: {
        "task": f"workers.{task}",
        "schedule": MAINTENANCE_SECONDS,
        # Without a worker to take them, old reminders do not pile up.
        "options": {"queue": "cpu", "expires": 2 * MAINTENANCE_SECONDS},
    }
    for task in (
        "recover_lost_runs",
        "advance_iterations",
        "wake_sampler",
        "wake_uploads",
        "release_leases",
        "start_scheduled_iterations",
    )
}
CELERY_BEAT_SCHEDULE["measure_quality"] = {
    "task": "workers.measure_quality",
    "schedule": crontab(hour=2, minute=30),
    "options": {"queue": "cpu", "expires": 12 * 3600},
}
CELERY_BEAT_SCHEDULE["check_counters"] = {
    "task": "workers.check_counters",
    "schedule": crontab(hour=2, minute=45),
    "options": {"queue": "cpu", "expires": 12 * 3600},
}

FILE_UPLOAD_HANDLERS = [
    "webapp.uploads.BoundedUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = env.text("CONCORD_STATIC_ROOT") or None
"""Where `collectstatic` gathers files; without it they are served from the packages."""
WHITENOISE_USE_FINDERS = STATIC_ROOT is None

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.flag("CONCORD_HTTPS")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "webapp.views.errors.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("CONCORD_LOG_LEVEL", "INFO")},
}
