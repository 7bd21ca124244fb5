"""Every address of the site. Who may call it stands at the view (`webapp.access`)."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from webapp.views import (
    accounts,
    annotate,
    dashboard,
    disagreements,
    health,
    home,
    iterations,
    people,
    policies,
    quality,
    review,
    rounds,
    runs,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("sign-in/", accounts.sign_in, name="sign-in"),
    path("sign-out/", accounts.sign_out, name="sign-out"),
    path("password/", accounts.password, name="password"),
    path("theme/", accounts.theme, name="theme"),
    # Annotators
    path("annotate/", annotate.annotate, name="annotate"),
    path("annotate/drafts/", annotate.draft, name="draft"),
    path("annotate/rounds/<int:pk>/start/", annotate.start, name="start"),
    path("annotate/dialogues/<int:pk>/", annotate.dialogue, name="dialogue"),
    path("annotate/dialogues/<int:pk>/prompt/", annotate.prompt, name="prompt"),
    path("annotate/dialogues/<int:pk>/finish/", annotate.finish, name="finish"),
    path("annotate/comparisons/<int:pk>/judge/", annotate.judge, name="judge"),
    path("annotate/comparisons/<int:pk>/skip/", annotate.skip, name="skip"),
    path("annotate/comparisons/<int:pk>/flag/", annotate.flag, name="flag"),
    path("annotate/comparisons/<int:pk>/beat/", annotate.beat, name="beat"),
    # Reviewers
    path("review/", review.review, name="review"),
    path("review/<int:pk>/", review.judgement, name="judgement"),
    path("review/disputed/", disagreements.disagreements, name="disagreements"),
    # Leads
    path("dashboard/", dashboard.dashboard, name="dashboard"),
    path("rounds/", rounds.rounds, name="rounds"),
    path("rounds/new/", rounds.new_round, name="new-round"),
    path("rounds/<int:pk>/", rounds.round_, name="round"),
    path("rounds/<int:pk>/close/", rounds.close_round, name="close-round"),
    path("rounds/guidelines/new/", rounds.new_guidelines, name="new-guidelines"),
    path("rounds/guidelines/<int:pk>/", rounds.guidelines, name="guidelines"),
    path("iterations/", iterations.iterations, name="iterations"),
    path("iterations/new/", iterations.new_iteration, name="new-iteration"),
    path("iterations/schedule/", iterations.schedule, name="schedule"),
    path("iterations/<int:pk>/", iterations.iteration, name="iteration"),
    path("iterations/<int:pk>/decide/", iterations.decide, name="decide"),
    path("iterations/<int:pk>/retry/", iterations.retry, name="retry-iteration"),
    path("iterations/<int:pk>/stop/", iterations.stop, name="stop-iteration"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<int:pk>/", runs.run, name="run"),
    path("runs/<int:pk>/cancel/", runs.cancel, name="cancel-run"),
    path("runs/<int:pk>/retry/", runs.retry, name="retry-run"),
    path("policies/", policies.policies, name="policies"),
    path("policies/<int:pk>/", policies.policy, name="policy"),
    path("policies/<int:pk>/promote/", policies.promote, name="promote"),
    path("policies/reward-models/<int:pk>/", policies.reward_model, name="reward-model"),
    path("quality/", quality.quality, name="quality"),
    path("quality/measure/", quality.measure_quality, name="measure-quality"),
    path("quality/time.csv", quality.timesheet, name="timesheet"),
    path("quality/<int:pk>/", quality.quality_report, name="quality-report"),
    path(
        "policies/reward-models/<int:pk>/report/",
        policies.reward_report,
        name="reward-report",
    ),
    path("people/", people.people, name="people"),
    path("people/<int:pk>/password/", people.reset_password, name="reset-password"),
    path("people/<int:pk>/active/", people.set_active, name="set-active"),
    # Admins
    path("admin/", admin.site.urls),
]

handler400 = "webapp.views.errors.bad_request"
handler403 = "webapp.views.errors.forbidden"
handler404 = "webapp.views.errors.not_found"
handler500 = "webapp.views.errors.server_error"
