"""GET /v1/status: the state of the accounts that serve the caller, their limits and use, and this instance's queue."""

from __future__ import annotations

from starlette.responses import Response

from shared.accounts.states import Facts, states
from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.response import JsonResponse
from shared.openai_api.projects import Projects, projects_of
from shared.ops.accounts_states import of_models
from shared.ops.health import UNKNOWN
from shared.ops.project_use import counted_models, one_of_each, slots_held


async def status(call: Call) -> Response:
    report = await call.services.health()
    projects = await projects_of(call)
    interactive, batch = call.services.admission.queue.waiting
    return JsonResponse(
        {
            "object": "status",
            "status": report["status"],
            "version": report["version"],
            "accounts": _own_account(call, projects) if call.caller.caller_key else _accounts(call, report["accounts"]),
            "concurrency": _concurrency(projects),
            "models": {model: projects.use(model).as_json() for model in counted_models(projects.ledgers)},
            "queue": {"interactive": interactive, "batch": batch},
        }
    )


def _accounts(call: Call, report: JsonObject) -> JsonObject:
    """Account ids are for the operator only."""
    shown = ["configured", "states", "models", *(["out"] if call.caller.kind == "admin" else [])]
    return {name: report[name] for name in shown}


def _own_account(call: Call, projects: Projects) -> JsonObject:
    (account,) = projects.accounts
    project = projects.ledgers.get(account.ledger_id)
    if project is None or project.reason is not None:
        return {"configured": 1, "states": {UNKNOWN: 1}, "models": {}}
    facts = Facts(project.now_ms, project.state, account.limits_for, call.settings.accounts.exhaustion)
    general, others = of_models(states(facts))
    models = {model: {state.name: 1} for model, state in others.items()}
    return {"configured": 1, "states": {general.name: 1}, "models": models}


def _concurrency(projects: Projects) -> JsonObject:
    """Each project's slots once, whatever number of keys it has."""
    limit = sum(account.concurrency for account in one_of_each(projects.accounts, projects.ledgers))
    return {"limit": limit, "held": slots_held(projects.accounts, projects.ledgers)}
