"""Which model serves a name."""

from __future__ import annotations

from typing import get_args

import pytest

from shared.errors import BadRequest
from shared.gemini.models import (
    MODELS,
    TABLE,
    ModelInfo,
    ModelTable,
    Purpose,
    default_model,
    model_for,
    model_id,
    resolve,
    says_missing,
)


@pytest.mark.parametrize(
    ("requested", "canonical"),
    [
        ("gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemini-1.5-flash-latest", "gemini-3.8-flash"),
        ("gemini-2.5-flash-preview-04-17", "gemini-3.8-flash"),
        ("gemini-2.0-flash-001", "gemini-3.5-flash-lite"),
        ("gemini-1.5-pro-latest", "gemini-4-argon"),
        ("gemini-3-pro-image-preview", "gemini-3-pro-image"),
        ("gemini-enterprise", "gemini-3.8-flash"),
        ("gemini-enterprise-2", "gemini-3.8-flash"),
        ("gemini-flash-latest", "gemini-3.8-flash"),
        ("gemini-flash-lite-latest", "gemini-3.5-flash-lite"),
        ("gemini-3.7-flash", "gemini-3.8-flash"),
        ("gemini-3.5-flash", "gemini-3.6-flash"),
    ],
)
def test_a_name_is_served_by_the_model_that_google_meters(requested, canonical):
    resolved = resolve(requested)
    assert (resolved.requested, resolved.canonical, resolved.known) == (requested, canonical, True)


def test_the_prefix_of_a_resource_name_is_dropped():
    assert resolve("models/gemini-1.5-flash-latest").requested == "gemini-1.5-flash-latest"
    assert resolve("models/gemini-3.8-flash") == resolve("gemini-3.8-flash")


def test_unknown_id_is_unchanged_and_marked():
    resolved = resolve("gemini-9-ultra")
    assert (resolved.canonical, resolved.known) == ("gemini-9-ultra", False)


def test_embedding_model_has_no_successor():
    assert resolve("text-embedding-004").known is False


@pytest.mark.parametrize(
    "model",
    [
        "",
        "models/",
        "a" * 101,
        "Gemini",
        "a b",
        "a/b",
        "../x",
        "m:generateContent",
        "m?key=x",
        "m\n",
        "modèle",
        "a%2fb",
    ],
)
def test_what_cannot_be_an_id_is_refused_and_names_the_field(model):
    with pytest.raises(BadRequest) as caught:
        resolve(model)
    assert caught.value.details == {"field": "model"}
    assert caught.value.message.startswith("model must be ")


@pytest.mark.parametrize("model", ["gemini-4-carbon", "gemini-4-neon", "gemini-4-hydrogen"])
def test_the_models_of_november_2026_answer_with_text(model):
    info = MODELS[model]
    assert info.answers_with == "text"
    assert ("xhigh" in info.thinking_levels) == (model == "gemini-4-neon")


@pytest.mark.parametrize(
    ("model", "answers_with"),
    [
        ("gemini-3.8-live", "a live session"),
        ("gemini-omni-1.1-flash", "videos"),
        ("lyria-3.5", "music"),
        ("gemini-3.8-flash-tts", "speech"),
        ("gemini-embedding-2", "vectors"),
        ("gemini-3.5-transcribe", "text"),
    ],
)
def test_kinds_say_what_they_answer_with(model, answers_with):
    assert MODELS[model].answers_with == answers_with


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("models/x is not found for API version v1beta, or is not supported for generateContent. Call", True),
        ("models/gemini-2.0-flash-001 is not found for API version v1.", True),
        ("This model models/gemini-2.5-pro is no longer available to new users. Please update", True),
        ("This model models/gemini-3-pro-preview is no longer available. Please", True),
        ("Model is not found: models/x for api version v1beta", True),
        ("Publisher Model `projects/***/locations/global/publishers/google/models/x` was not found or your", True),
        ("Publisher Model `projects/***/locations/global/publishers/google/models/x` not found.", True),
        ("Publisher Model `a b` not found.", False),
        ("Requested entity was not found.", False),
        ("File not found: files/models/x is not found for API version v1", False),
        ("CachedContent not found (or permission denied)", False),
        ("models/ is not found for API version v1", False),
        ("", False),
    ],
)
def test_only_a_404_about_the_model_means_missing(text, missing):
    assert says_missing(text) is missing


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gemini-3.8-flash", "gemini-3.8-flash"),
        ("models/gemini-3.8-flash-001", "gemini-3.8-flash-001"),
        ("gemini-3.8-flash-preview-09-2026", "gemini-3.8-flash-preview-09-2026"),
        ("publishers/google/models/gemini-3.8-flash", None),
        ("gemini-3.8-flash\u2028", None),
        ("~unproven", None),
        ("Gemini", None),
        ("x" * 101, None),
        ("", None),
        (None, None),
    ],
)
def test_invalid_name_in_an_answer_is_ignored(name, found):
    assert model_id(name) == found


@pytest.mark.parametrize("purpose", get_args(Purpose))
@pytest.mark.parametrize("tier", ["free", "tier1", "tier2", "tier3", "custom"])
def test_every_purpose_has_a_model_that_can_do_it(purpose, tier):
    info = MODELS[default_model(purpose, tier)]
    assert info.answers_with == ("images" if purpose == "image" else "text")


def test_pro_purposes_fall_to_flash_on_the_free_tier_only():
    assert default_model("structured_output", "tier1") == "gemini-4-argon"
    assert default_model("structured_output", "free") == "gemini-3.8-flash"
    assert default_model("cinematic_story_design", "free") == "gemini-3.8-flash"
    assert default_model("image", "free") == "gemini-3-pro-image"


def test_every_entry_is_under_its_own_id():
    for name, info in MODELS.items():
        assert info.id == name
        assert resolve(name).canonical == name


class TestAnOperatorsTable:
    def test_operator_table_extends_a_copy(self):
        table = TABLE.changed(
            models=[ModelInfo("gemini-5-boron", "pro")],
            successors={"gemini-4-argon": "gemini-5-boron"},
            defaults={"chat": "gemini-3.6-flash"},
        )
        assert table.resolve("gemini-1.5-pro-latest").canonical == "gemini-5-boron"
        assert table.default_model("structured_output", "tier1") == "gemini-5-boron"
        assert table.resolve("gemini-enterprise").canonical == "gemini-3.6-flash"
        assert resolve("gemini-1.5-pro-latest").canonical == "gemini-4-argon"

    def test_a_model_that_is_added_serves_its_own_name_again(self):
        table = TABLE.changed(models=[ModelInfo("gemini-2.5-flash", "flash")])
        assert table.resolve("gemini-2.5-flash").canonical == "gemini-2.5-flash"

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"successors": {"a": "nowhere"}}, "leads 'a' to no known model"),
            ({"successors": {"a": "b", "b": "a"}}, "leads 'a' in a circle"),
            ({"defaults": {"chat": "nowhere"}}, "leads 'nowhere' to no known model"),
        ],
    )
    def test_one_that_leads_nowhere_is_refused_with_a_sentence(self, changes, sentence):
        with pytest.raises(ValueError, match=sentence):
            TABLE.changed(**changes)

    def test_one_without_a_default_is_refused(self):
        with pytest.raises(ValueError, match="no default for chat"):
            ModelTable(MODELS, {}, {})


class TestModelFor:
    def test_callers_choice_precedes_the_override_and_the_default(self):
        assert model_for("gemini-4-argon", "chat", "tier1", "gemini-3.6-flash") == "gemini-4-argon"
        assert model_for(None, "chat", "tier1", "gemini-3.6-flash") == "gemini-3.6-flash"
        assert model_for(None, "chat", "tier1", None) == "gemini-3.8-flash"

    def test_override_applies_to_plain_text_only(self):
        assert model_for(None, "structured_output", "tier1", "gemini-3.6-flash") == "gemini-4-argon"

    def test_empty_name_is_rejected(self):
        with pytest.raises(BadRequest, match="must be a Gemini model id"):
            model_for("", "chat", "tier1", None)

    @pytest.mark.parametrize(
        ("model", "returns"),
        [
            ("gemini-3-pro-image", "images"),
            ("models/gemini-3-pro-image-preview", "images"),
            ("gemini-embedding-2", "vectors"),
            ("gemini-3.8-flash-tts", "speech"),
        ],
    )
    def test_text_purpose_rejects_a_model_without_text(self, model, returns):
        for purpose in get_args(Purpose):
            if purpose != "image":
                with pytest.raises(BadRequest, match=f"returns {returns}, not text") as caught:
                    model_for(model, purpose, "tier1", None)
                assert caught.value.details == {"field": "model"}
        assert model_for(model, "image", "tier1", None) == model
