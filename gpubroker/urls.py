from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from sessions import key_views, launch_views

from . import accounts, doctor, health, livetests

urlpatterns = [
    path("", include("providers.urls")),
    path("", include("sessions.urls")),
    path("launch/<slug:provider>/<path:offer_id>/", launch_views.launch, name="launch"),
    path("estimate/<slug:provider>/<path:offer_id>/", launch_views.estimate, name="estimate"),
    path("keys/", key_views.keys, name="keys"),
    path("keys/paste/", key_views.key_paste, name="key_paste"),
    path("keys/<int:pk>/delete/", key_views.key_delete, name="key_delete"),
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("login/<uid>/<token>/", accounts.signin, name="signin"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password/", accounts.ChangePassword.as_view(), name="password_change"),
    path("doctor/", doctor.page, name="doctor"),
    path("livetests/", livetests.page, name="livetests"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/", admin.site.urls),
]
