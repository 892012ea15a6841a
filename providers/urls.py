from django.urls import path

from . import views

urlpatterns = [
    path("offers/", views.offers, name="offers"),
    path("", views.offers, name="offers"),  # the last of a name is the one that links use
]
