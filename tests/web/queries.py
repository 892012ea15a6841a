"""Questions to the offers page, as they stand in its address."""

from django.http import QueryDict

from providers.filters import Filters, parse


def parsed(query: str) -> Filters:
    return parse(dict(QueryDict(query).lists()))
