"""Manifests and models become a specification."""

from __future__ import annotations

from typing import Any

import openapi_spec_validator
import pytest
from pydantic import BaseModel, create_model

from shared.gemini.models import TABLE
from shared.http.bodies import GenerationAnswer, GenerationBody
from shared.http.manifest import Manifest
from shared.openapi.document import Server, document
from shared.openapi.operation import Operation, operations
from shared.settings.settings import Settings

SERVER = Server("1.2.3", ("gemini-3.8-flash",), 120.0, 32 * 2**20, ("gemini-3-pro-image",))


class Request(GenerationBody):
    text: str


class Answer(GenerationAnswer):
    text: str


def manifest(name: str = "thing", access: Any = "credential", **paths: tuple[str, ...]) -> Manifest:
    given = {f"/{path.replace('_', '/')}": methods for path, methods in paths.items()} or {f"/{name}": ("POST",)}
    return Manifest(name, "Does a thing.", given, access, 512, 1, 80, 60, ())


def described(made: Manifest | None = None, models: dict[str, Any] | None = None) -> dict[str, Any]:
    made = made or manifest()
    given = {"Request": Request, "Answer": Answer} if models is None else models
    result = document([(made, operations(made, given))], SERVER)
    openapi_spec_validator.validate(result)
    return result


def only(result: dict[str, Any]) -> dict[str, Any]:
    ((_, methods),) = result["paths"].items()
    ((_, operation),) = methods.items()
    return operation


class TestOperations:
    def test_a_status_lists_its_codes_and_meanings(self) -> None:
        response = only(described())["responses"]["429"]
        assert "- `queue_timeout`: the request cannot be served before its deadline" in response["description"]
        error = response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"]
        assert {"rate_limited", "queue_timeout", "daily_quota_exhausted"} <= set(error["properties"]["code"]["enum"])
        assert "retry-after" in response["headers"]

    def test_one_code_means_different_things_by_status(self) -> None:
        responses = only(described())["responses"]
        assert "`no_quota`: the caller's own key" in responses["429"]["description"]
        assert "`no_quota`: the server's project" in responses["503"]["description"]

    def test_a_function_of_one_path_is_described_by_its_two_models(self) -> None:
        operation = only(described())
        assert operation["operationId"] == "thing"
        body, answer = operation["requestBody"], operation["responses"]["200"]
        assert body["required"] is True
        assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ThingRequest"}
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ThingAnswer"}
        assert "x-ratelimit-remaining-requests" in answer["headers"]

    def test_a_function_without_models_is_there_with_its_paths(self) -> None:
        operation = only(described(models={}))
        assert operation["responses"]["200"]["content"] == {}
        assert "requestBody" not in operation

    def test_operation_ids_are_unique(self) -> None:
        result = described(manifest(things=("GET", "POST"), thing=("GET",), things_all=("GET",)), {})
        ids = {o["operationId"] for methods in result["paths"].values() for o in methods.values()}
        assert ids == {"thing", "thing_things_get", "thing_things_post", "thing_things_all"}

    def test_what_lies_below_a_path_is_a_parameter(self) -> None:
        made = Manifest("thing", "A thing.", {"/things/*": ("GET",)}, "public", 512, 1, 80, 60, ())
        result = described(made, {"OPERATIONS": {"GET /things/*": Operation(below=["a.js", "b/c.js"])}})
        assert list(result["paths"]) == ["/things/{path}"]
        assert only(result)["parameters"][0]["schema"]["enum"] == ["a.js", "b/c.js"]

    def test_a_template_has_path_parameters(self) -> None:
        """The key is endpoint.json's pattern, which is OpenAPI's already; a parameter may be described."""
        made = Manifest("thing", "A thing.", {"/things/{id}/parts/{part}": ("GET",)}, "public", 512, 1, 80, 60, ())
        about = {"description": "Of the thing.", "schema": {"type": "string", "pattern": "^t[0-9]+$"}}
        models = {"OPERATIONS": {"GET /things/{id}/parts/{part}": Operation(path_parameters={"id": about})}}
        result = described(made, models)
        assert list(result["paths"]) == ["/things/{id}/parts/{part}"]
        assert only(result)["parameters"][:2] == [
            {"name": "id", "in": "path", "required": True, **about},
            {"name": "part", "in": "path", "required": True, "schema": {"type": "string"}},
        ]
        assert only(result)["operationId"] == "thing"
        assert "`not_found`" in only(result)["responses"]["404"]["description"]

    def test_an_unknown_path_parameter_is_an_error(self) -> None:
        made = Manifest("thing", "A thing.", {"/things/{id}": ("GET",)}, "public", 512, 1, 80, 60, ())
        with pytest.raises(ValueError, match=r"GET /things/\{id\} of thing describes name,"):
            operations(made, {"OPERATIONS": {"GET /things/{id}": Operation(path_parameters={"name": {}})}})

    def test_paths_in_also_are_left_to_their_owner(self) -> None:
        made = Manifest(
            "thing", "A thing.", {"/thing": ("GET",)}, "public", 512, 1, 80, 60, (), also={"/chat": ("POST",)}
        )
        assert list(described(made)["paths"]) == ["/thing"]

    def test_an_operation_that_has_no_path_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="OPERATIONS of thing has GET /thing,"):
            operations(manifest(), {"OPERATIONS": {"GET /thing": Operation()}})

    @pytest.mark.parametrize(
        ("access", "security", "has_401"),
        [
            ("public", [], False),
            ("credential", [{"AdminKey": []}, {"GeminiKey": []}, {"GeminiKeyAsBearer": []}], True),
            ("anonymous", [{"AdminKey": []}, {"GeminiKey": []}, {"GeminiKeyAsBearer": []}, {}], True),
        ],
    )
    def test_who_may_call_it(self, access: Any, security: list[Any], has_401: bool) -> None:
        operation = only(described(manifest(access=access)))
        assert operation["security"] == security
        assert ("401" in operation["responses"]) is has_401

    def test_some_requests_to_a_path_need_no_credential(self) -> None:
        made = described(manifest(access="credential"), {"OPERATIONS": {"POST /thing": Operation(anonymous=True)}})
        assert {} in only(made)["security"]
        assert "401" in only(made)["responses"]

    def test_what_the_admin_alone_may_do_in_a_public_function(self) -> None:
        made = manifest(access="public", things=("GET",), thing=("GET",))
        models = {"OPERATIONS": {"GET /things": Operation(Answer, admin_only=True)}}
        paths = described(made, models)["paths"]
        admin, anybody = paths["/things"]["get"], paths["/thing"]["get"]
        assert (admin["security"], "401" in admin["responses"]) == ([{"AdminKey": []}], True)
        assert (anybody["security"], "401" in anybody["responses"]) == ([], False)

    def test_what_the_query_may_have_and_that_it_may_be_wrong(self) -> None:
        limit = {"description": "How many.", "schema": {"type": "integer"}}
        models = {"OPERATIONS": {"GET /thing": Operation(Answer, query={"limit": limit})}}
        operation = only(described(manifest(access="public", thing=("GET",)), models))
        assert operation["parameters"][-1] == {"name": "limit", "in": "query", **limit}
        assert "400" in operation["responses"]

    def test_an_operation_without_an_answer_has_no_content(self) -> None:
        made = Manifest("thing", "A thing.", {"/things/*": ("DELETE",)}, "public", 512, 1, 80, 60, ())
        responses = only(described(made, {"OPERATIONS": {"DELETE /things/*": Operation(status=204)}}))["responses"]
        assert "200" not in responses
        assert "content" not in responses["204"]

    def test_only_what_uses_the_storage_can_find_it_down(self) -> None:
        for storage, told in (("none", False), ("read", True)):
            made = Manifest("thing", "A thing.", {"/thing": ("GET",)}, "public", 512, 1, 80, 60, (), storage)
            failed = only(described(made, {}))["responses"]["503"]
            assert ("storage_unavailable" in failed["description"]) is told

    def test_extra_status_has_common_and_own_headers(self) -> None:
        part = {"description": "A part.", "headers": {"content-range": {"schema": {"type": "string"}}}}
        models = {"OPERATIONS": {"GET /thing": Operation(Answer, responses={"206": part})}}
        responses = only(described(manifest(thing=("GET",)), models))["responses"]
        assert responses["206"]["headers"].keys() == {"x-request-id", "server-timing", "content-range"}
        assert "416" in responses, "who takes ranges refuses some"

    def test_only_answers_with_data_can_miss_a_schema(self) -> None:
        class WithData(GenerationAnswer):
            data: dict[str, Any]

        for answer, told in ((Answer, False), (WithData, True)):
            failed = only(described(models={"Request": Request, "Answer": answer}))["responses"]["502"]
            assert ("nonconforming_answer" in failed["description"]) is told

    def test_events_are_described_one_by_one(self) -> None:
        class Piece(BaseModel):
            model_config = {"json_schema_extra": {"examples": [{"text": "x"}]}}
            text: str

        models = {"OPERATIONS": {"POST /thing": Operation(Answer, Request, events=(Piece,))}}
        media = only(described(models=models))["responses"]["200"]["content"]["text/event-stream"]
        schema = media["schema"]["properties"]["data"]["contentSchema"]
        assert schema["anyOf"] == [{"$ref": "#/components/schemas/ThingPiece"}, {"$ref": "#/components/schemas/Error"}]
        assert media["example"] == 'data: {"text": "x"}\n\n'


class TestSchemas:
    def test_functions_may_have_models_of_the_same_names(self) -> None:
        functions = []
        for name, kind in (("one", int), ("two_three", str)):
            part = create_model("Part", __module__=f"functions.{name}.models", value=(kind, ...))
            request = create_model("Request", __module__=f"functions.{name}.models", part=(part, ...))
            functions.append((manifest(name), operations(manifest(name), {"Request": request})))
        result = document(functions, SERVER)
        openapi_spec_validator.validate(result)
        schemas = result["components"]["schemas"]
        kinds = {}
        for name in ("OneRequest", "TwoThreeRequest"):
            part = schemas[name]["properties"]["part"]["$ref"].rpartition("/")[2]
            kinds[name] = schemas[part]["properties"]["value"]["type"]
        assert kinds == {"OneRequest": "integer", "TwoThreeRequest": "string"}

    def test_a_body_has_the_examples_of_its_fields_or_its_own(self) -> None:
        from pydantic import Field

        fields = create_model("Request", text=(str, Field(examples=["Hello"])), other=(int, 1))
        whole = create_model(
            "Request", __config__={"json_schema_extra": {"examples": [{"a": 1}, {"a": 2}]}}, a=(int, 1)
        )
        for model, examples in ((fields, [{"text": "Hello"}]), (whole, [{"a": 1}, {"a": 2}])):
            content = only(described(models={"Request": model}))["requestBody"]["content"]["application/json"]
            assert [example["value"] for example in content["examples"].values()] == examples

    def test_a_model_is_one_of_those_that_this_server_serves(self) -> None:
        schemas = described()["components"]["schemas"]
        assert schemas["Model"]["anyOf"][0]["enum"] == ["gemini-3.8-flash"]
        assert schemas["ThingRequest"]["properties"]["model"]["anyOf"] == [
            {"$ref": "#/components/schemas/Model"},
            {"type": "null"},
        ]

    def test_model_list_has_text_models_and_added_ones(self) -> None:
        given = {"GEMINI_LIMITS": '{"gemini-5-neon": {"rpm": 5}}', "GEMINI_MODEL_TYPE": "models/gemini-5-xenon"}
        names = Server.of(Settings.from_environment(given)).models
        assert {"gemini-3.8-flash", "gemini-5-neon", "gemini-5-xenon", "gemini-flash-latest", "gemini-1.5-pro"} <= set(
            names
        )
        assert not {"gemini-embedding-2", "gemini-3-pro-image", "gemini-3.8-flash-tts"} & set(names)
        assert len(names) == len(set(names))
        for name in set(names) - {"gemini-5-neon", "gemini-5-xenon"}:
            assert TABLE.resolve(name).known


def test_the_version_and_the_longest_wait_are_the_servers() -> None:
    result = described()
    assert result["info"]["version"] == "1.2.3"
    assert result["components"]["parameters"]["x-request-timeout"]["schema"]["maximum"] == 120.0
