# The web process, the cpu queue and the schedule. No torch: requirements/web.lock is all there is.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    CONCORD_HOME=/data \
    CONCORD_STATIC_ROOT=/app/staticfiles

# The same number in both images, because they share the volume /data.
RUN useradd --uid 1000 --create-home concord && install -d -o concord -g concord /data
WORKDIR /app

# Requirements first: a change in the code does not install them again.
COPY requirements/web.lock requirements/web.lock
RUN pip install -r requirements/web.lock

COPY manage.py ./
COPY records records
COPY registry registry
COPY annotation annotation
COPY simulation simulation
COPY workers workers
COPY webapp webapp

# Static files are named by their content and belong to the image. No secret signs anything here,
# and no database is asked.
RUN CONCORD_SECRET_KEY=only-for-this-step DATABASE_URL=postgres://nobody@nowhere/nothing \
    python manage.py collectstatic --noinput --verbosity 0

# Every run notes the commit of its code; an image has no git to ask.
ARG CONCORD_COMMIT=""
ENV CONCORD_COMMIT=${CONCORD_COMMIT}

USER concord
EXPOSE 8000
CMD ["gunicorn", "webapp.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", \
     "--no-control-socket", "--worker-tmp-dir", "/dev/shm"]
