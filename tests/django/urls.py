from django.contrib import admin
from django.urls import include, path, re_path

from tests.django.clinic import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("patients/", views.patients),
    path("apatients/", views.apatients),
    path("patients/<int:patient_id>/", views.patient),
    path("rolled-back/", views.rolled_back),
    path("read-then-write/", views.read_then_write),
    path("login/", views.log_in),
    path("export/", views.export),
    path("exchange/", views.exchange),
    path("login-by-name/", views.log_in_by_name),
    path("logout/", views.log_out),
    path("whoami/", views.whoami),
    path("awhoami/", views.awhoami),
    path("indifferent/", views.indifferent),
    path("boom/", views.boom),
    path("leave/<int:patient_id>/", views.leave),
    path("aboom/", views.aboom),
    path("rows/", views.rows),
    path("file/", views.file),
    path("charts/<int:pk>/", views.Chart.as_view()),
    path("statistics/", views.Statistics.as_view()),
    path("password/<token>/", views.by_secret),
    path("old/", include([re_path(r"^sessions/(?P<session_id>\w+)/$", views.by_secret)])),
    path("old/", include([re_path(r"^visits/(?P<visit_id>[0-9]+)/$", views.indifferent)])),
    re_path(r"^unnamed/([0-9]+)/$", views.indifferent),
]
