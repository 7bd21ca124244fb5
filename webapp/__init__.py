"""The Django project: settings, URLs, and every page, form, template and static file."""
