"""Where a request may be served because of what its body carries: a stored thing belongs to one Google project, a thought
signature to the backend that made it.

    names                                     accounts that may serve
    ------------------------------------------------------------------------------------------------------------
    things of the caller, in one project      the accounts of this project: the request waits for them
    things of two projects                    none: 400 that names both
    an unknown thing, or another caller's     none: 404. Where only one project can have an unknown thing, an administrator's
                                              request goes there: the operator's own uploads are not bound
    signatures that one backend made          the accounts of this backend; where none is usable, the other backend's, with the
                                              placeholder that Gemini documents in place of the signatures

A request with a caller's own key is never looked up: Gemini itself keeps the things of two keys' projects apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.accounts.account import Account, Kind
from shared.accounts.bindings import Binding, Bindings
from shared.accounts.pool import Pool
from shared.accounts.signatures import BACKENDS, LIFETIME_MS, SignatureBackends
from shared.errors import BadRequest, NoServerKey, NotFound
from shared.gateway.request_bodies import RequestBodies
from shared.gemini import references
from shared.gemini.errors import UpstreamFailure
from shared.generation import EncodedBody, Generation
from shared.stores.port import Store

MAX_LOOK_UP_S = 5.0


class Places:
    """What the requests of one process share. Bound to one event loop."""

    def __init__(self, pool: Pool, bodies: RequestBodies, store: Store, signatures_ms: int = LIFETIME_MS) -> None:
        self.pool, self.bodies = pool, bodies
        self.bindings, self.signatures = Bindings(store), SignatureBackends(store, signatures_ms)
        self._server: Sequence[Account] | None = None
        self._projects: dict[str, str] = {}
        """The server's projects by account id."""
        self._of_kind: dict[Kind, set[str]] = {}
        self._several_backends = False

    @property
    def several_projects(self) -> bool:
        self._refresh()
        return len(set(self._projects.values())) > 1

    @property
    def several_backends(self) -> bool:
        """Whether the server has accounts of both backends that make thought signatures."""
        self._refresh()
        return self._several_backends

    def project_of(self, binding: Binding) -> str:
        """The ledger id under which the binding's project is configured now; the binding's own if there is none."""
        self._refresh()
        if binding.project in self._projects.values():
            return binding.project
        return self._projects.get(binding.account_id, binding.project)

    def lone_project(self, name: str) -> str | None:
        """The project that has a thing whose binding is not known, if only one can have it."""
        self._refresh()
        projects = self._of_kind.get("vertex" if name.startswith("projects/") else "api_key", set())
        return next(iter(projects)) if len(projects) == 1 else None

    def _refresh(self) -> None:
        """Looks at the pool again only when it has other accounts: it may have hundreds."""
        server = self.pool.server
        if self._server is not server:
            self._server = server
            self._projects = {account.id: account.ledger_id for account in server}
            self._of_kind = {}
            for account in server:
                self._of_kind.setdefault(account.kind, set()).add(account.ledger_id)
            self._several_backends = len(self._of_kind.keys() & BACKENDS) > 1


class Placement:
    """The placement of one request. `look_up` first; then `choose` whenever the accounts may have changed."""

    __slots__ = (
        "_backend",
        "_bodies",
        "_encoded",
        "_generation",
        "_left",
        "_made",
        "_made_by",
        "_names",
        "_places",
        "_project",
        "_signatures",
    )

    def __init__(self, places: Places, generation: Generation, encoded: EncodedBody) -> None:
        self._places, self._generation, self._encoded = places, generation, encoded
        on_server = generation.caller.caller_key is None
        self._names = references.names(encoded.body) if on_server else ()
        self._signatures = references.signatures(encoded.body) if on_server and places.several_backends else ()
        self._project: tuple[str, str] | None = None
        """The project that the request is bound to, and the thing that binds it."""
        self._made_by: Mapping[str, Kind] = {}
        """Signature -> the backend that made it, if that is known."""
        self._backend: Kind | None = None
        self._left: set[Kind] = set()
        self._bodies: dict[Kind, EncodedBody] = {}
        self._made: list[str] = []
        """Signatures of the answer so far."""

    @property
    def needed(self) -> bool:
        return bool(self._names or self._signatures)

    async def look_up(self, timeout_s: float) -> None:
        """Raises NotFound, BadRequest, LedgerUnavailable."""
        caller, timeout_s = self._generation.caller, min(timeout_s, MAX_LOOK_UP_S)
        if self._names:
            self._bind(await self._places.bindings.find(self._names, caller.id, timeout_s=timeout_s))
        if self._signatures:
            self._made_by = await self._places.signatures.find(self._signatures, timeout_s=timeout_s)

    def _bind(self, found: Mapping[str, Binding | None]) -> None:
        caller, several = self._generation.caller, self._places.several_projects
        holders: dict[str, str] = {}
        for name, binding in found.items():
            if binding is None:
                project = self._places.lone_project(name) if caller.kind == "admin" else None
            else:
                project = self._places.project_of(binding) if binding.owner == caller.id else None
            if project is None:
                raise _missing(name)
            holders.setdefault(project, name)
        if not several:
            return  # The only project stores everything, whatever it was called when the thing was made.
        if len(holders) > 1:
            first, second = list(holders.values())[:2]
            raise BadRequest(
                f"{first} and {second} are stored in two Google projects, so one request cannot use both. Upload one of them "
                "again together with the other, or send it inline.",
                details={"names": [first, second]},
            )
        self._project = next(iter(holders.items()), None)

    def holding(self, candidates: list[Account]) -> list[Account]:
        """The accounts of the project that the request is bound to. Raises NoServerKey, NotFound."""
        if self._project is None:
            return candidates
        project, name = self._project
        held = [account for account in candidates if account.ledger_id == project]
        if held:
            return held
        pool = self._places.pool
        configured = [account for account in pool.server if account.ledger_id == project]
        if not configured:
            raise NotFound(
                f"{name} is stored in a Google project that this server has no key for any more. Upload it again."
            )
        reason, retry_s = pool.why_out(configured)
        raise NoServerKey(
            f"{name} is stored in a Google project whose keys cannot be used now. Google's reason: {reason} Retry later, or "
            "upload it again.",
            retry_after_s=retry_s,
        )

    def of_backend(self, candidates: list[Account]) -> list[Account]:
        """The accounts of the backend that made the newest signature whose backend is known; else of the other one."""
        self._backend = None
        if not self._made_by:
            return candidates
        newest = next(self._made_by[one] for one in reversed(self._signatures) if one in self._made_by)
        for backend in (newest, *sorted(BACKENDS - {newest})):
            chosen = [account for account in candidates if account.kind == backend and backend not in self._left]
            if chosen:
                self._backend = backend
                return chosen
        return candidates

    def leave(self) -> bool:
        """Gives up the backend of the signatures, because none of its accounts can serve. False if that helps nothing: no
        signature binds the request, or no account of another backend may serve it."""
        if self._backend is None:
            return False
        left = {*self._left, self._backend}
        try:
            candidates = self.holding(self._places.pool.candidates(self._generation.caller))
        except (NoServerKey, NotFound):
            return False
        if not any(account.kind in BACKENDS - left for account in candidates):
            return False
        self._left = left
        return True

    @property
    def replaces(self) -> bool:
        """Whether the chosen backend gets a placeholder in place of signatures of the other one."""
        return self._backend is not None and any(kind != self._backend for kind in self._made_by.values())

    async def body(self) -> EncodedBody:
        """The body for the chosen backend. Raises QueueFull."""
        backend = self._backend
        if backend is None or not self.replaces:
            return self._encoded
        if backend not in self._bodies:
            foreign = frozenset(one for one, kind in self._made_by.items() if kind != backend)
            original, generation = self._encoded, self._generation
            made = await self._places.bodies.build(
                lambda: references.with_placeholder(original.body, foreign),
                len(original.data),
                generation.caller,
                generation.claim,
            )
            if generation.claim is not None:
                generation.claim.grow(len(made.data))
            self._bodies[backend] = made
        return self._bodies[backend]

    # -- the answer --------------------------------------------------------------------------------------------------

    def note(self, frame: Mapping[str, Any]) -> bool:
        """Notes the signatures of an answer, or of one frame of a stream. Returns whether any are to be written."""
        if self._places.several_backends:
            self._made += references.signatures_of_answer(frame)
        return bool(self._made)

    async def record(self, account: Account) -> None:
        """Writes which backend made the noted signatures: one commit."""
        if self._made:
            made, self._made = self._made, []
            if account.kind in BACKENDS and not account.caller_key:
                await self._places.signatures.record(made, account.kind)

    def missing(self, failure: UpstreamFailure) -> NotFound | None:
        """The error if Gemini answered that a thing which the request names does not exist in its project."""
        if not self._names or failure.status not in (403, 404) or not references.says_missing(failure.message):
            return None
        return _missing(next((name for name in self._names if name.split("/")[-1] in failure.message), self._names[0]))


def _missing(name: str) -> NotFound:
    """The same for an unknown thing and for another caller's."""
    return NotFound(
        f"{name[:200]} was not found: it does not exist, has expired, or belongs to another caller. Check the name, or send the "
        "data inline."
    )
