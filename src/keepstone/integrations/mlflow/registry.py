"""MLflow's registry store behind a guard: the one road to every model, whatever route led here.

REST, its copy for the UI, GraphQL and whatever MLflow adds all end in this store, with arguments
that MLflow itself parsed: there is no second reading of a request that could differ. Prompts go
the same way, by the methods of `AbstractStore`, which call these.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore

from keepstone.errors import KeepstoneError, OperationalError
from keepstone.integrations.mlflow.callers import CALLER, Caller
from keepstone.integrations.mlflow.guard import ALIAS, DEPRECATE, PROMOTE, PUSH, READ, Guard
from keepstone.integrations.mlflow.judging import STAGE

_PAGE = 1000
_MOST = 200_000
# Where MLflow keeps what is on its way, and what was put away: nobody loads from there by name.
_UNPROMOTED = frozenset({"none", "archived"})
Said = dict[str, Any]


class GuardedRegistry(AbstractStore):  # type: ignore[misc]
    """Calls `inner` where the caller may. What they may not see does not exist for them."""

    def __init__(self, inner: Any, guard: Guard) -> None:
        super().__init__()
        self.inner = inner
        self._guard = guard

    # Reads of one model or version

    def get_registered_model(self, name: str) -> Any:
        self._see("get_registered_model", name, None, _no_model)
        return self._shown(self.inner.get_registered_model(name))

    def get_latest_versions(self, name: str, stages: list[str] | None = None) -> Any:
        # Only a grant on the whole model passes here, never one that is narrowed to versions: who
        # gets on may see each of them.
        self._see("get_latest_versions", name, None, _no_model)
        return self.inner.get_latest_versions(name, stages)

    def get_model_version(self, name: str, version: Any) -> Any:
        self._see("get_model_version", name, version, _no_version)
        return self.inner.get_model_version(name, version)

    def get_model_version_download_uri(self, name: str, version: Any) -> Any:
        self._see("get_model_version_download_uri", name, version, _no_version)
        return self.inner.get_model_version_download_uri(name, version)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        try:
            found = self.inner.get_model_version_by_alias(name, alias)
        except MlflowException:
            self._see("get_model_version_by_alias", name, None, _no_model)
            raise
        self._see("get_model_version_by_alias", name, found.version, _no_model)
        return found

    # Searches

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        def pages(token: str | None) -> Any:
            return self.inner.search_registered_models(filter_string, _PAGE, order_by, token)

        if self._is_unfiltered():
            return self.inner.search_registered_models(
                filter_string, max_results, order_by, page_token
            )
        found = self._search(pages, max_results, page_token, lambda one: (one.name, None))
        found_models = [self._shown(one) for one in found]
        return PagedList(found_models, found.token)

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> Any:
        def pages(token: str | None) -> Any:
            return self.inner.search_model_versions(filter_string, _PAGE, order_by, token)

        if self._is_unfiltered():
            return self.inner.search_model_versions(
                filter_string, max_results, order_by, page_token
            )
        return self._search(
            pages, max_results, page_token, lambda one: (one.name, int(one.version))
        )

    # Changes

    def create_registered_model(self, name: str, *given: Any, **named: Any) -> Any:
        self._change(PUSH, "create_registered_model", name)
        # A new model has no versions and no aliases that could be too much.
        return self.inner.create_registered_model(name, *given, **named)

    def update_registered_model(self, name: str, *given: Any, **named: Any) -> Any:
        self._change(PUSH, "update_registered_model", name)
        # Who may push to the whole model may have been given only some versions to see.
        return self._shown(self.inner.update_registered_model(name, *given, **named))

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        self._change(PUSH, "rename_registered_model", new_name)
        self._change(DEPRECATE, "rename_registered_model", name)
        return self._shown(self.inner.rename_registered_model(name, new_name))

    def delete_registered_model(self, name: str) -> Any:
        self._change(DEPRECATE, "delete_registered_model", name)
        return self.inner.delete_registered_model(name)

    def set_registered_model_tag(self, name: str, tag: Any) -> Any:
        self._change(PUSH, "set_registered_model_tag", name)
        return self.inner.set_registered_model_tag(name, tag)

    def delete_registered_model_tag(self, name: str, key: str) -> Any:
        self._change(PUSH, "delete_registered_model_tag", name)
        return self.inner.delete_registered_model_tag(name, key)

    def create_model_version(self, name: str, *given: Any, **named: Any) -> Any:
        self._change(PUSH, "create_model_version", name)
        return self.inner.create_model_version(name, *given, **named)

    def copy_model_version(self, src_mv: Any, dst_name: str) -> Any:
        self._see("copy_model_version", src_mv.name, src_mv.version, _no_version)
        self._change(PUSH, "copy_model_version", dst_name)
        return self.inner.copy_model_version(src_mv, dst_name)

    def update_model_version(self, name: str, version: Any, *given: Any, **named: Any) -> Any:
        self._change(PUSH, "update_model_version", name, version)
        return self.inner.update_model_version(name, version, *given, **named)

    def delete_model_version(self, name: str, version: Any) -> Any:
        self._change(DEPRECATE, "delete_model_version", name, version)
        return self.inner.delete_model_version(name, version)

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> Any:
        self._change(PUSH, "set_model_version_tag", name, version)
        return self.inner.set_model_version_tag(name, version, tag)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> Any:
        self._change(PUSH, "delete_model_version_tag", name, version)
        return self.inner.delete_model_version_tag(name, version, key)

    # Promotions

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> Any:
        """Move an alias, where a grant and the evidence both say yes."""
        said = {"alias": alias}
        self._change(ALIAS, "set_registered_model_alias", name, version, said, evidence=alias)
        return self.inner.set_registered_model_alias(name, alias, version)

    def delete_registered_model_alias(self, name: str, alias: str) -> Any:
        self._change(ALIAS, "delete_registered_model_alias", name, None, {"alias": alias})
        return self.inner.delete_registered_model_alias(name, alias)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; any but none and archived needs evidence."""
        wanted = str(stage).lower()
        by = "" if wanted in _UNPROMOTED else f"{STAGE}{wanted}"
        said = {"stage": wanted[:64]}
        self._change(PROMOTE, "transition_model_version_stage", name, version, said, evidence=by)
        return self.inner.transition_model_version_stage(
            name, version, stage, archive_existing_versions
        )

    # Webhooks: their routes are closed to Keepstone's principals; MLflow asks for them itself

    def create_webhook(self, *given: Any, **named: Any) -> Any:
        self._own("create_webhook")
        return self.inner.create_webhook(*given, **named)

    def get_webhook(self, *given: Any, **named: Any) -> Any:
        self._own("get_webhook")
        return self.inner.get_webhook(*given, **named)

    def list_webhooks(self, *given: Any, **named: Any) -> Any:
        self._own("list_webhooks")
        return self.inner.list_webhooks(*given, **named)

    def list_webhooks_by_event(self, *given: Any, **named: Any) -> Any:
        return self.inner.list_webhooks_by_event(*given, **named)

    def update_webhook(self, *given: Any, **named: Any) -> Any:
        self._own("update_webhook")
        return self.inner.update_webhook(*given, **named)

    def delete_webhook(self, *given: Any, **named: Any) -> Any:
        self._own("delete_webhook")
        return self.inner.delete_webhook(*given, **named)

    def test_webhook(self, *given: Any, **named: Any) -> Any:
        self._own("test_webhook")
        return self.inner.test_webhook(*given, **named)

    @property
    def supports_workspaces(self) -> bool:
        return bool(self.inner.supports_workspaces)

    # Deciding

    def _see(self, call: str, name: str, version: Any, missing: Callable[..., str]) -> None:
        """Return if the caller may see it; else it is missing, in the words MLflow has for that."""
        caller, said = _caller(), _said(name, version)
        if caller.principal is not None and not self._may(caller, READ, name, version):
            self._refuse(caller, call, said, missing(name, version), RESOURCE_DOES_NOT_EXIST)
        with _as_mlflow():
            self._guard.note(caller, call, said)

    def _change(
        self,
        action: str,
        call: str,
        name: str,
        version: Any = None,
        more: Said | None = None,
        *,
        evidence: str = "",
    ) -> None:
        """Return if the caller may change it, with that on the record; else raise, recorded too.

        With `evidence`, the version is promoted by that alias or stage and needs some.
        """
        caller, said = _caller(), _said(name, version) | (more or {})
        if caller.principal is not None and not self._may(caller, action, name, version):
            if not self._may(caller, READ, name, version):
                missing = _no_model(name, version)
                self._refuse(caller, call, said, missing, RESOURCE_DOES_NOT_EXIST)
            words = f"[policy.denied] No grant of {caller.name} holds {action} on this model."
            self._refuse(caller, call, said, words, PERMISSION_DENIED)
        with _as_mlflow():
            if evidence:
                try:
                    self._guard.require_evidence(name, int(version), evidence)
                except KeepstoneError as error:
                    # Where even this cannot be recorded, that is the answer: a refusal too.
                    self._guard.record(caller, call, said, error.code)
                    raise
            self._guard.record(caller, call, said, "allowed")

    def _own(self, call: str) -> None:
        caller = _caller()
        if caller.principal is not None:
            self._refuse(
                caller, call, {}, "[policy.denied] Webhooks are closed.", PERMISSION_DENIED
            )

    def _may(self, caller: Caller, action: str, name: str, version: Any) -> bool:
        assert caller.principal is not None
        with _as_mlflow():
            number = None if version is None else int(version)
            return self._guard.reach(caller.principal, action).covers(name, number)

    def _refuse(self, caller: Caller, call: str, said: Said, words: str, code: Any) -> None:
        with _as_mlflow():
            self._guard.record(caller, call, said, "policy.denied")
        raise MlflowException(words, code)

    def _is_unfiltered(self) -> bool:
        return _caller().principal is None

    def _shown(self, model: Any) -> Any:
        """A registered model, without those of its versions that the caller may not see, and
        without the aliases that name them.
        """
        principal = _caller().principal
        if principal is not None:
            with _as_mlflow():
                reach = self._guard.reach(principal, READ)
                model._latest_version = [
                    one
                    for one in model.latest_versions or ()
                    if reach.covers(model.name, int(one.version))
                ]
                model._aliases = {
                    alias: version
                    for alias, version in model.aliases.items()
                    if reach.covers(model.name, int(version))
                }
        return model

    def _search(
        self,
        pages: Callable[[str | None], Any],
        most: int | None,
        token: str | None,
        named: Callable[[Any], tuple[str, int | None]],
    ) -> Any:
        """What the caller may see, in pages of that alone: neither a page nor a token tells how
        much else there is.
        """
        caller, begin = _caller(), _offset(token)
        assert caller.principal is not None
        visible: list[Any] = []
        limit = begin + min(most or 100, _MOST)
        with _as_mlflow():
            reach = self._guard.reach(caller.principal, READ)
            self._guard.note(caller, "search", {})
        for one in _all(pages):
            if reach.covers(*named(one)):
                visible.append(one)
            if len(visible) > limit:
                break
        further = _token(limit) if len(visible) > limit else None
        return PagedList(visible[begin:limit], further)


def _no_model(name: str, _: Any = None) -> str:
    """What MLflow says of a registered model that does not exist."""
    return f"Registered Model with name={name} not found"


def _no_version(name: str, version: Any) -> str:
    return f"Model Version (name={name}, version={version}) not found"


def _all(pages: Callable[[str | None], Any]) -> Iterator[Any]:
    token, seen = None, 0
    while True:
        page = pages(token)
        yield from page
        seen += len(page)
        token = page.token
        if not token or seen >= _MOST:
            return


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"keepstone:{offset}".encode()).decode()


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if word == "keepstone" and number.isdecimal() and number.isascii() and len(number) < 10:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise MlflowException("Invalid page token", INVALID_PARAMETER_VALUE)


def _said(name: str, version: Any) -> Said:
    return {"model": str(name)[:256]} | ({} if version is None else {"version": str(version)[:20]})


def _caller() -> Caller:
    caller = CALLER.get()
    if caller is None:
        raise MlflowException("[auth.missing] Nobody is known to ask for this.", PERMISSION_DENIED)
    return caller


@contextmanager
def _as_mlflow() -> Iterator[None]:
    """What Keepstone raises in the block is raised as MLflow tells it to its clients."""
    try:
        yield
    except KeepstoneError as error:
        undecided = isinstance(error, OperationalError)
        words = f"[{error.code}] {error.cause} {error.next_step}".rstrip()
        code = TEMPORARILY_UNAVAILABLE if undecided else PERMISSION_DENIED
        raise MlflowException(words, code) from error
    except (ValueError, TypeError, OSError) as error:
        words = "[mlflow.unreadable] The guard could not decide."
        raise MlflowException(words, TEMPORARILY_UNAVAILABLE) from error
