"""A stored account: what it may contain, its state, and its ledger."""

from __future__ import annotations

from typing import Any

import pytest

from shared.accounts.records import MAX_REASON_CHARS, AccountRecord, OutReason, place_of
from shared.errors import BadRequest

PLACE = {"project": "my-project", "location": "global"}


def record(**fields: Any) -> AccountRecord:
    return AccountRecord(**{"id": "a-1", "kind": "api_key", "sealed": "1.k.s", **fields})


@pytest.mark.parametrize("label", ["", "<script>alert(1)</script>", "Ключ команды", "团队", "Zoë's 🔑", "a" * 100])
def test_label_is_any_text(label: str) -> None:
    assert record(label=label).label == label


@pytest.mark.parametrize("label", ["a" * 101, "a\nb", "\x1b[31m", "\x00", "a\u2028b", "\u202eevil", "\ud800", "\x7f"])
def test_label_that_misleads_a_reader_is_rejected(label: str) -> None:
    with pytest.raises(BadRequest) as found:
        record(label=label)
    assert found.value.details == {"field": "accounts.a-1.label"}
    assert label not in found.value.message


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"id": "../x"}, "accounts"),
        ({"id": "A"}, "accounts"),
        ({"id": ""}, "accounts"),
        ({"kind": "other"}, "accounts.a-1.kind"),
        ({"sealed": "s" * 20_001}, "accounts.a-1.sealed"),
        ({"last4": "12345"}, "accounts.a-1.last4"),
        ({"added_ms": -1}, "accounts.a-1.added_ms"),
        ({"revision": -1}, "accounts.a-1.revision"),
        ({"project": "a/b"}, "accounts.a-1.project"),
        ({"place": {"project": "x"}}, "accounts.a-1.place"),
        ({"kind": "vertex"}, "accounts.a-1.place.project"),
        ({"kind": "vertex", "place": {**PLACE, "location": "us/../eu"}}, "accounts.a-1.place.location"),
        ({"kind": "vertex", "place": {**PLACE, "engine": "x"}}, "accounts.a-1.place"),
        ({"unknown": {str(n): n for n in range(101)}}, "accounts.a-1.unknown"),
    ],
)
def test_error_names_the_field(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(BadRequest) as found:
        record(**fields)
    assert found.value.details == {"field": path}


def test_state_says_who_took_the_account_out() -> None:
    out = OutReason("key_invalid", "API key not valid.", 5)
    states = [record(), record(out=out), record(enabled=False), record(enabled=False, out=out)]
    assert [one.state for one in states] == ["ENABLED", "FAILED_INIT", "DISABLED", "DISABLED"]


def test_reason_takes_any_message_of_gemini() -> None:
    reason = OutReason.of("key_invalid", "first\n\x1b[31m second\u2028 \u202e" + "x" * 1000, 7)
    assert reason.message.startswith("first [31m second")
    assert len(reason.message) == MAX_REASON_CHARS


def test_one_project_has_a_ledger_for_each_backend() -> None:
    key = record(project="my-project")
    vertex = record(kind="vertex", place=PLACE)
    assert (key.ledger_id, vertex.ledger_id) == ("my-project", "vertex~my-project")
    assert record().ledger_id is None
    session = record(kind="enterprise_session", place={"team_id": "t", "csesidx": "1"})
    assert session.ledger_id == "enterprise_session~t"


def test_sealed_text_and_unknown_fields_are_not_in_repr() -> None:
    shown = repr(record(sealed="1.k.planted", unknown={"cookie": "planted"}))
    assert "planted" not in shown


def test_place_gets_the_defaults_of_its_kind() -> None:
    assert place_of("vertex", {"project": "p"}) == {"project": "p", "location": "global"}
    assert place_of("enterprise", {"project": "p", "engine": "e"})["assistant"] == "default_assistant"
