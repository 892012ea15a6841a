from django.urls import path

from . import attention_views, audit_views, bulk_views, provider_views, views

urlpatterns = [
    path("strip/", views.strip, name="strip"),
    path("sessions/", views.session_list, name="sessions"),
    path("sessions/fragment/", views.list_fragment, name="list_fragment"),
    path("sessions/stop/", bulk_views.sessions_stop, name="sessions_stop"),
    path("sessions/<uuid:pk>/", views.session_page, name="session"),
    path("sessions/<uuid:pk>/fragment/", views.session_fragment, name="session_fragment"),
    path("sessions/<uuid:pk>/stop/", views.session_stop, name="session_stop"),
    path("sessions/<uuid:pk>/extend/", views.session_extend, name="session_extend"),
    path("sessions/<uuid:pk>/keep/", views.session_keep, name="session_keep"),
    path("sessions/<uuid:pk>/idle/", views.session_idle, name="session_idle"),
    path("sessions/<uuid:pk>/again/", views.session_again, name="session_again"),
    path("sessions/<uuid:pk>/key/", views.session_key, name="session_key"),
    path("attention/", attention_views.attention, name="attention"),
    path("attention/orphans/<int:pk>/destroy/", attention_views.hurry, name="orphan_destroy"),
    path("attention/orphans/<int:pk>/adopt/", attention_views.adopt_orphan, name="orphan_adopt"),
    path("attention/orphans/<int:pk>/ignore/", attention_views.ignore, name="orphan_ignore"),
    path("attention/<slug:provider>/release/", attention_views.release, name="provider_release"),
    path("audit/", audit_views.audit_page, name="audit"),
    path("audit/export.csv", audit_views.audit_export, {"kind": "csv"}, name="audit_csv"),
    path("audit/export.json", audit_views.audit_export, {"kind": "json"}, name="audit_json"),
    path("providers/", provider_views.providers, name="providers"),
    path("providers/<str:provider>/", provider_views.provider_card, name="provider_card"),
    path("providers/<str:provider>/test/", provider_views.provider_test, name="provider_test"),
]
