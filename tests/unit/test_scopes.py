"""A scope is read from text, contains what it names, and has a place in the order of settling."""

from __future__ import annotations

import re

import pytest

from quota.domain.locations import parse_location
from quota.domain.scopes import Scope, scope_problem, scope_refusal

Asked = tuple[str, dict[str, str], str | None]

VISION = {"team": "vision", "keep": "yes=no"}


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("deployment", ("any", {}, None), None),
        ("experiments", ("any", {}, "s3://bucket/a/"), None),
        ("experiment:a:b", ("a:b", {}, None), ("a", {}, None)),
        ("label:team=vision", ("a", VISION, None), ("a", {"team": "nlp"}, None)),
        ("label:keep=yes=no", ("a", VISION, None), ("a", {"keep": "yes"}, None)),
        ("store:file:///scratch/a", ("a", {}, "file:///scratch/a/1"), ("a", {}, "file:///scratch/ab")),
        ("store:file:///scratch/a", ("a", {}, "file:///scratch/a"), ("a", {}, None)),
        ("store:s3://bucket/a/", ("a", {}, "s3://bucket/a/1/"), ("a", {}, "s3://bucket/b/1/")),
        ("store:s3://bucket/", ("a", {}, "s3://bucket/b/1/"), ("a", {}, "s3://bucket2/b/1/")),
    ],
)
def test_what_a_scope_contains(text: str, inside: Asked, outside: Asked | None) -> None:
    scope = Scope.parse(text)
    assert scope.text == text
    assert scope.contains(*inside)
    assert outside is None or not scope.contains(*outside)


def test_a_store_contains_what_its_location_contains() -> None:
    uris = [
        "file:///a",
        "file:///a/b",
        "file:///a/b/c",
        "file:///ab",
        "s3://a/",
        "s3://a/b/",
        "s3://a/b/c/",
        "s3://a/bc/",
    ]
    for root in uris:
        for uri in uris:
            expected = parse_location(root).contains(parse_location(uri))
            assert Scope("store", root).contains("x", {}, uri) == expected, (root, uri)


def test_the_innermost_scope_is_settled_first() -> None:
    texts = [
        "experiment:b",
        "experiments",
        "label:team=nlp",
        "label:team=vision",
        "store:file:///scratch/vision/large",
        "store:file:///scratch/vision",
        "deployment",
    ]
    assert sorted(sorted(texts), key=lambda text: Scope.parse(text).order) == texts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a scope is one of `experiment:<id>`, `experiments`, `label:<key>=<value>`, `store:<uri>`, `deployment`"),
        ("team=vision", "a scope is one of"),
        ("trial:7", "a scope is one of"),
        ("deployment:", "a scope is one of"),
        ("experiments:a", "a scope is one of"),
        ("experiment:", "an id must not be empty"),
        ("experiment:_deployment", "this name is reserved"),
        ("label:team", "a label is written `label:<key>=<value>`, e.g. label:team=vision"),
        ("label:=vision", "the label's key: an id must not be empty"),
        ("label:team=", "the label's value: an id must not be empty"),
        ("label:team=\u202e", "the label's value: character 1"),
        ("store:scratch", "a location is an absolute URI"),
        ("store:file:///scratch/", "without a final `/`"),
        ("store:s3://bucket/a", "a prefix ends in `/`"),
        ("store:file:///", "write `deployment`, or name a directory"),
    ],
)
def test_what_is_no_scope(text: str, said: str) -> None:
    assert said in (scope_problem(text) or "")
    with pytest.raises(ValueError, match=re.escape(said)):
        Scope.parse(text)


def test_a_scope_of_another_kind_is_refused_by_what_it_is_for() -> None:
    refusal = scope_refusal("deployment", ("experiment", "label"), "a reserve")
    assert refusal is not None
    assert (refusal.field, refusal.value) == ("scope", "deployment")
    assert refusal.reason == "a reserve is for `experiment:<id>` or `label:<key>=<value>`"
    assert scope_refusal("label:a=b", ("experiment", "label"), "a reserve") is None
