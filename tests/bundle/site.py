"""A page with a bundle that contains the SDK, and the tag that gives it tokens."""

from __future__ import annotations

import os
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path

from partium_auth.conf import conf

PAGE = Template(
    "{% load partium %}<!doctype html><title>x</title><body data-api-url='{{ api_url }}'>"
    "<script type='module' src='/bundle.js'></script>{% partium_find_sdk %}"
)


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.render(RequestContext(request, {"api_url": conf.api_url})))


def bundle(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Path(os.environ["OUT"], "bundle.js").read_bytes(), content_type="text/javascript")


urlpatterns = [path("partium/", include("partium_auth.urls")), path("", page), path("bundle.js", bundle)]
