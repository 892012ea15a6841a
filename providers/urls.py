from django.urls import path

from . import market_views, views

urlpatterns = [
    path("offers/news/", market_views.news, name="offers_news"),
    path("offers/compare/", market_views.compare, name="compare"),
    path("prices/<path:gpu>/", market_views.prices, name="prices"),
    path("offers/", views.offers, name="offers"),
    path("", views.offers, name="offers"),  # the last of a name is the one that links use
]
