"""Where a request may be served because of what its body carries: a stored thing belongs to one Google project, a thought
signature to the backend that made it.

    names                                     accounts that may serve
    ------------------------------------------------------------------------------------------------------------
    things of the caller, in one project      the accounts of this project: the request waits for them
    things of two projects                    none: 400 that names both
    an unknown thing, or another caller's     none: 404. Where only one project can have an unknown thing, an administrator's
                                              request goes there: the operator's own uploads are not bound
    files that callers stored here            the accounts of the project that `file_placement` chooses
    signatures that one backend made          the accounts of this backend; where none is usable, the other backend's, with the
                                              placeholder that Gemini documents in place of the signatures

The names in a request with a caller's own key are never looked up: Gemini itself keeps the things of two keys' projects apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.accounts.account import Account, Kind
from shared.accounts.bindings import Binding, Bindings
from shared.accounts.pool import Pool
from shared.accounts.signatures import BACKENDS, LIFETIME_MS, SignatureBackends
from shared.admission.admission import Admission
from shared.admission.merge_ledgers import find_merges
from shared.clock import elapsed_s
from shared.errors import (
    BadRequest,
    GatewayError,
    LedgerUnavailable,
    NoServerKey,
    NotFound,
    QueueTimeout,
)
from shared.gateway.request_bodies import RequestBodies
from shared.gemini import references
from shared.gemini.errors import UpstreamFailure
from shared.generation import Cost, EncodedBody, Generation
from shared.stores.port import StoreError

if TYPE_CHECKING:
    from shared.admission.project import ProjectClient
    from shared.gateway.file_copies import FileCopies
    from shared.gateway.file_placement import FilePlacement
    from shared.gemini.file_uploads import FileUploads

MAX_LOOK_UP_S = 5.0
MERGES_KNOWN_S = 10.0
"""While all accounts of a thing's project are out, the ledgers are looked at for merges so often."""


class Places:
    """What the requests of one process share. Bound to one event loop."""

    def __init__(
        self,
        pool: Pool,
        bodies: RequestBodies,
        admission: Admission,
        signatures_ms: int = LIFETIME_MS,
        *,
        uploads: Callable[[], FileUploads] | None = None,
        longest_upload_s: float = 0.0,
    ) -> None:
        """`uploads` returns the client of Gemini's Files API; without it, no request may have a stored file."""
        self._uploads, self._longest_upload_s = uploads, longest_upload_s
        self.pool, self.bodies, self._store, self._clients = pool, bodies, admission.store, admission.clients
        self.bindings, self.signatures = Bindings(admission.store), SignatureBackends(admission.store, signatures_ms)
        self._seen: tuple[Sequence[Account], int] | None = None
        """The accounts, and the number of merges, that the following is from."""
        self._projects: dict[str, str] = {}
        """By account id of the server: the ledger that counts the account's project now."""
        self._look_again_s = 0.0
        self._of_kind: dict[Kind, set[str]] = {}
        self._several_backends = False

    @cached_property
    def copies(self) -> FileCopies:
        """Only processes with large stored files load this."""
        from shared.gateway.file_copies import FileCopies

        assert self._uploads is not None, "a gateway without the Files API got a stored file"
        return FileCopies(self._store, self.bodies.byte_budget, self._uploads, self._longest_upload_s)

    def client(self, account: Account) -> ProjectClient | None:
        """What this process knows of the account's project; None if there was no request for it yet."""
        return self._clients.known(account)

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
        """The ledger that counts the binding's project now; the binding's own if the server has no account of it."""
        self._refresh()
        project = self.current(binding.project)
        return project if project in self._projects.values() else self._projects.get(binding.account_id, project)

    def current(self, ledger: str) -> str:
        """The ledger that `ledger` was merged into, as far as this process knows."""
        return self._clients.current(ledger)

    def accounts_of(self, project: str, accounts: Iterable[Account]) -> list[Account]:
        """Those of `accounts` that are of the project, whatever ledgers they were configured with."""
        project = self.current(project)
        return [account for account in accounts if self._clients.ledger_of(account) == project]

    async def learn_merges(self, bindings: Sequence[Binding], timeout_s: float) -> None:
        """Reads which ledgers were merged, where a binding's project has no usable account as far as this process knows: an
        account whose own ledger this process has not used may be of the same project. Raises LedgerUnavailable."""
        usable = {self._clients.ledger_of(account) for account in self.pool.usable()}
        if all(self.project_of(binding) in usable for binding in bindings) or elapsed_s() < self._look_again_s:
            return
        ledgers = {binding.project for binding in bindings} | {account.ledger_id for account in self.pool.server}
        unknown = [one for one in ledgers if self.current(one) == one and one not in self._clients.by_ledger]
        try:
            self._clients.learn(await find_merges(self._store, unknown, timeout_s=timeout_s))
        except StoreError:
            raise LedgerUnavailable(
                "The rate ledger cannot be read, so the project of a stored file is not known. Nothing was sent; retry later.",
                retry_after_s=5,
            ) from None
        self._look_again_s = elapsed_s() + MERGES_KNOWN_S

    def lone_project(self, name: str) -> str | None:
        """The project that has a thing whose binding is not known, if only one can have it."""
        self._refresh()
        projects = self._of_kind.get("vertex" if name.startswith("projects/") else "api_key", set())
        return next(iter(projects)) if len(projects) == 1 else None

    def _refresh(self) -> None:
        """Looks at the pool again only when it has other accounts, or ledgers were merged: it may have hundreds."""
        server, merges = self.pool.server, self._clients.merges
        if self._seen is None or self._seen[0] is not server or self._seen[1] != merges:
            self._seen = (server, merges)
            self._projects = {account.id: self._clients.ledger_of(account) for account in server}
            self._of_kind = {}
            for account in server:
                self._of_kind.setdefault(account.kind, set()).add(self._projects[account.id])
            self._several_backends = len(self._of_kind.keys() & BACKENDS) > 1


class Placement:
    """The placement of one request. `look_up` first; then `choose` whenever the accounts may have changed."""

    __slots__ = (
        "_backend",
        "_bodies",
        "_encoded",
        "_files",
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
        named = references.named(encoded.body)
        self._names = named.bounded_things() if on_server else ()
        self._signatures = references.signatures(encoded.body) if on_server and places.several_backends else ()
        self._files: FilePlacement | None = None
        if named.files:
            from shared.gateway.file_placement import FilePlacement

            self._files = FilePlacement(places, generation, named.files)
        self._project: tuple[str, str] | None = None
        """The project that the request is bound to, and the thing that binds it."""
        self._made_by: Mapping[str, Kind] = {}
        """Signature -> the backend that made it, if that is known."""
        self._backend: Kind | None = None
        self._left: set[Kind] = set()
        self._bodies: dict[tuple[Kind | None, tuple[str, ...]], EncodedBody] = {}
        """By the backend whose foreign signatures are replaced, and the URIs of the files."""
        self._made: list[str] = []
        """Signatures of the answer so far."""

    @property
    def needed(self) -> bool:
        return bool(self._names or self._signatures or self._files)

    async def look_up(self, timeout_s: float) -> None:
        """Raises NotFound, BadRequest, LedgerUnavailable."""
        caller, timeout_s = self._generation.caller, min(timeout_s, MAX_LOOK_UP_S)
        if self._names:
            found = await self._places.bindings.find(self._names, caller.id, timeout_s=timeout_s)
            own = [binding for binding in found.values() if binding is not None and binding.owner == caller.id]
            await self._places.learn_merges(own, timeout_s)
            self._bind(found)
        if self._files is not None:
            await self._files.look_up(timeout_s)
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
        """The accounts of the project that the request is bound to. Raises NoServerKey, NotFound, BadRequest."""
        held = self._holding(candidates)
        return held if self._files is None else self._files.holding(held)

    async def place(self, accounts: list[Account], model: str, cost: Cost) -> None:
        """Uploads the request's files to a project of `accounts`, unless that is done. Raises GatewayError."""
        if self._files is not None:
            await self._files.place(accounts, model, cost)

    async def renew(self, failure: UpstreamFailure) -> bool:
        """Whether the request may be sent again after `place`, as Gemini did not have the files. Raises LedgerUnavailable."""
        return self._files is not None and await self._files.renew(failure)

    def _holding(self, candidates: list[Account]) -> list[Account]:
        if self._project is None:
            return candidates
        project, name = self._project
        held = self._places.accounts_of(project, candidates)
        if held:
            return held
        pool = self._places.pool
        configured = self._places.accounts_of(project, pool.server)
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

    def leave(self, error: Exception, having: Callable[[list[Account]], list[Account]]) -> bool:
        """Gives up the project of the files, or the backend of the signatures, because none of its accounts can serve. False if
        that helps nothing: nothing binds the request, or no other account with the model (`having`) may serve it."""
        full = isinstance(error, QueueTimeout)
        if self._files is None and (full or self._backend is None):
            return False
        try:
            candidates = self._holding(self._places.pool.candidates(self._generation.caller))
        except GatewayError:
            return False
        if self._files is not None:
            return self._files.leave(candidates, having, full=full)
        assert self._backend is not None
        left = {*self._left, self._backend}
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
        backend, uris = self._backend if self.replaces else None, self._files.uris if self._files is not None else {}
        if backend is None and not uris:
            return self._encoded
        key = (backend, tuple(uris.values()))
        if key not in self._bodies:
            made_by = {} if backend is None else self._made_by
            foreign = frozenset(one for one, kind in made_by.items() if kind != backend)
            original, generation = self._encoded, self._generation
            made = await self._places.bodies.build(
                lambda: references.replaced(original.body, foreign, uris),
                len(original.data),
                generation.caller,
                generation.claim,
            )
            if generation.claim is not None:
                generation.claim.grow(len(made.data))
            self._bodies = {key: made}
        return self._bodies[key]

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
