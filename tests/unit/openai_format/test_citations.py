"""The web pages that an answer cites."""

from __future__ import annotations

from typing import Any

import pytest

from shared.generation import JsonObject
from shared.openai_format.citations import MAX_CITATIONS, citations

TEXT = "Zürich hat viele Brücken. Es regnet."
PAGES = [{"web": {"uri": "https://a.example", "title": "a.example"}}, {"web": {"uri": "https://b.example"}}]


def grounded(*supports: Any, pages: Any = PAGES) -> JsonObject:
    return {"candidates": [{"groundingMetadata": {"groundingChunks": pages, "groundingSupports": list(supports)}}]}


def support(*chunks: Any, **segment: Any) -> JsonObject:
    return {"segment": segment, "groundingChunkIndices": list(chunks)}


def places(*supports: Any) -> list[tuple[str, str]]:
    """The cited text and the URL of each citation."""
    found = [one["url_citation"] for one in citations(grounded(*supports), TEXT)]
    return [(TEXT[one["start_index"] : one["end_index"]], one["url"]) for one in found]


def test_a_citation_is_openais() -> None:
    assert citations(grounded(support(0, startIndex=28, endIndex=38, text="Es regnet.")), TEXT) == [
        {
            "type": "url_citation",
            "url_citation": {"start_index": 26, "end_index": 36, "url": "https://a.example", "title": "a.example"},
        }
    ]


def test_bytes_become_characters() -> None:
    assert places(support(0, 1, endIndex=27)) == [
        ("Zürich hat viele Brücken.", "https://a.example"),
        ("Zürich hat viele Brücken.", "https://b.example"),
    ]


def test_a_text_of_another_part_is_searched_for() -> None:
    assert places(support(1, startIndex=0, endIndex=10, text="Es regnet.")) == [("Es regnet.", "https://b.example")]


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {},
        support(2, endIndex=3),
        support(-1, endIndex=3),
        support("0", endIndex=3),
        support(0, startIndex=5, endIndex=3),
        support(0, text="Es schneit."),
        {"segment": 5, "groundingChunkIndices": [0]},
        {"segment": {"endIndex": 3}, "groundingChunkIndices": 0},
    ],
)
def test_an_odd_support_is_left_out(odd: Any) -> None:
    assert places(odd, support(0, endIndex=7)) == [("Zürich", "https://a.example")]


@pytest.mark.parametrize(
    "page", [None, {}, {"web": None}, {"web": {"uri": 5}}, {"retrievedContext": {"uri": "gs://a"}}]
)
def test_a_page_without_an_address_is_no_citation(page: Any) -> None:
    assert citations(grounded(support(0, endIndex=7), pages=[page]), TEXT) == []


@pytest.mark.parametrize("body", [{}, {"candidates": [{}]}, {"candidates": [{"groundingMetadata": []}]}])
def test_an_answer_without_a_search_has_none(body: JsonObject) -> None:
    assert citations(body, TEXT) == []


def test_citations_are_bounded() -> None:
    assert len(citations(grounded(*[support(0, endIndex=7)] * (MAX_CITATIONS + 1)), TEXT)) == MAX_CITATIONS
