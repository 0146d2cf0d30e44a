"""HTTP to a registry: who is asked, how long, how much is taken, and who gets to see a login.

Promise: TLS, but to this machine itself; a login or token goes to the host it was made for and
to no other, also when that host sends us elsewhere; an answer is cut off at its limit, and a
peer that stops or crawls ends in an error, never in a hang. The environment's proxies, cookies
and `.netrc` are not used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keepstone import __version__
from keepstone.core.canonical import parse_json
from keepstone.errors import InputError, KeepstoneError, OperationalError
from keepstone.vault.stores.oci.challenge import Challenge, parse_challenges
from keepstone.vault.stores.oci.logins import Login, is_docker_hub, login_for
from keepstone.vault.stores.oci.manifest import malformed
from keepstone.vault.stores.oci.reference import is_host, is_loopback
from keepstone.vault.stores.oci.request import Ask, Limits, Origin
from keepstone.vault.stores.patience import within

if TYPE_CHECKING:
    import httpx

_TOKEN_ANSWER = 1 << 20
_ERROR_ANSWER = 1 << 16
_BUSY = frozenset({429, 502, 503, 504})
_ASK_AGAIN = frozenset({"oci.unreachable", "oci.truncated"})
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})
_LONGEST_PAUSE_S = 5.0


class Wire:
    """Sends requests to registries; any thread may use it. Close it."""

    def __init__(self, logins: Mapping[str, Login], limits: Limits) -> None:
        import ssl

        try:
            import httpx
        except ImportError as error:
            raise OperationalError(
                "extra.http",
                "Talking to a registry needs the extra `http`, which is not installed.",
                "pip install 'keepstone[http]'",
            ) from error
        self.limits = limits
        self._logins = dict(logins)
        # By origin and scope; a token is only ever read under the origin it was given for.
        self._known: dict[tuple[Origin, str], str] = {}
        self._lock = threading.Lock()
        self._client = httpx.Client(
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(limits.silence_s, connect=limits.connect_s),
            headers={
                "User-Agent": f"keepstone/{__version__}",
                # What is hashed is what was sent: nobody compresses it on its way.
                "Accept-Encoding": "identity",
            },
        )
        self._client.cookies.jar.set_policy(_no_cookies())

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def ask(self, ask: Ask) -> Iterator[httpx.Response]:
        """The answer to `ask`, its body not read yet, whatever its status is.

        (1) What is known from before is sent along; a challenge is answered once.
        (2) Another address is followed where `follow` says so, without login or token.
        (3) A server that is busy, or that hung up before it answered, is asked again, a few
            times: a connection that was kept may be closed there while we use it.

        Raises OperationalError `oci.*`, VerificationError `oci.malformed`.
        """
        response = self._patiently(ask)
        try:
            yield response
        finally:
            response.close()

    def _patiently(self, ask: Ask) -> httpx.Response:
        attempts = self.limits.attempts if ask.repeat else 1
        for attempt in range(1, attempts + 1):
            pause = self.limits.pause_s * 2 ** (attempt - 1)
            try:
                response = self._authenticated(ask)
            except KeepstoneError as error:
                if error.code not in _ASK_AGAIN or attempt == attempts:
                    raise
            else:
                if response.status_code not in _BUSY or attempt == attempts:
                    return response
                pause = max(pause, _retry_after(response))
                response.close()
            time.sleep(min(pause, _LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _authenticated(self, ask: Ask) -> httpx.Response:
        url = self._url(ask.url)
        key = (Origin.of(url), ask.scope)
        # (1)
        response = self._followed(ask, url, self._known.get(key))
        if response.status_code != 401 or Origin.of(response.url) != key[0]:
            return response
        try:
            granted = self._answer(key, parse_challenges(_header(response, "WWW-Authenticate")))
        finally:
            response.close()
        if granted is None:
            raise _denied(key[0], "it asks for a login, and there is none for it")
        with self._lock:
            self._known[key] = granted
        response = self._followed(ask, url, granted)
        if response.status_code == 401:
            response.close()
            raise _denied(key[0], "it does not take the login or token that it asked for")
        return response

    def _followed(self, ask: Ask, url: httpx.URL, granted: str | None) -> httpx.Response:
        origin = Origin.of(url)
        for _ in range(self.limits.redirects + 1):
            # (2) Only the origin that was asked first gets what was granted for it.
            mine = granted if Origin.of(url) == origin else None
            response = self._send(ask, url, mine)
            if response.status_code not in _ELSEWHERE:
                return response
            try:
                if not ask.follow:
                    raise _elsewhere(origin, "where nothing but a blob may lie elsewhere")
                url = self._next_url(url, origin, _header(response, "Location"))
            finally:
                response.close()
        raise _elsewhere(origin, "again and again")

    def _next_url(self, url: httpx.URL, origin: Origin, location: str) -> httpx.URL:
        import httpx

        try:
            found = url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise malformed("it sends us to an address that is none") from error
        # A registry must not make us ask this machine's own services in its name.
        if is_loopback(Origin.of(found).host) and not is_loopback(origin.host):
            raise _elsewhere(origin, "to this machine itself")
        return self._url(str(found))

    def _url(self, text: str) -> httpx.URL:
        """An address that may be asked. Raises `oci.malformed`, `oci.insecure`."""
        import httpx

        try:
            url = httpx.URL(text)
            origin = Origin.of(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise malformed("an address in it is none") from error
        if url.userinfo or not is_host(origin.host.lower()):
            raise malformed("an address in it is none")
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(origin.host)):
            raise OperationalError(
                "oci.insecure",
                f"{origin.host[:80]} would be asked without TLS.",
                "Use a registry that has a certificate; only this machine itself needs none.",
            )
        return url

    # Logins and tokens

    def _answer(self, key: tuple[Origin, str], challenges: list[Challenge]) -> str | None:
        """What answers one of the challenges, or None."""
        origin, scope = key
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return self._token(origin, challenge, scope)
            if challenge.scheme == "basic" and (login := login_for(self._logins, origin.host)):
                return login.basic
        return None

    def _token(self, origin: Origin, challenge: Challenge, scope: str) -> str:
        """Fetch a token for `scope` from the place the registry names.

        That place gets the login only where it is the registry itself: a registry that could send
        us to another one with that one's login, and say for what, would be given a token there.
        """
        import httpx

        realm = self._url(challenge.parameters["realm"])
        if is_loopback(Origin.of(realm).host) and not is_loopback(origin.host):
            raise _elsewhere(origin, "to this machine itself")
        # What the challenge wants it for does not count.
        asked = {"scope": scope}
        if service := challenge.parameters.get("service"):
            asked["service"] = service
        url = realm.copy_merge_params(httpx.QueryParams(asked))
        same = _is_same(origin, realm)
        login = login_for(self._logins, origin.host) if same else None
        response = self._send(Ask("GET", str(url), ""), url, login.basic if login else None)
        try:
            if response.status_code != 200:
                why = "" if same else "; another host gives them, which gets no login"
                raise _denied(origin, f"no token is given for it ({response.status_code}){why}")
            document = self.document(response, _TOKEN_ANSWER)
        finally:
            response.close()
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise malformed("a token in it is none")
        return f"Bearer {token}"

    # The wire itself

    def _send(self, ask: Ask, url: httpx.URL, granted: str | None) -> httpx.Response:

        headers = {**ask.headers, **({"Authorization": granted} if granted else {})}
        content = bytes(ask.content) if isinstance(ask.content, memoryview) else ask.content
        request = self._client.build_request(ask.method, url, headers=headers, content=content)
        patience = self.limits.upload_s if ask.content is not None else self.limits.answer_s
        with self.faults(Origin.of(url).host):
            response: httpx.Response = within(
                patience,
                lambda: self._client.send(request, stream=True),
                lambda late: late.close(),
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            response.close()
            raise malformed("its content is compressed, which was not asked for")
        return response

    @contextmanager
    def faults(self, host: str) -> Iterator[None]:
        """Give what the road to `host` does a code."""
        import httpx

        try:
            yield
        except (TimeoutError, httpx.TimeoutException) as error:
            raise timed_out(host) from error
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise OperationalError(
                "oci.unreachable",
                f"The registry {host} is not reached: {str(error)[:200] or 'no connection'}.",
                "Look at its name, its certificate, and the network.",
            ) from error
        except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
            raise OperationalError(
                "oci.truncated",
                f"The answer of the registry {host} is cut off or broken.",
                "Try again, and look what lies between here and the registry.",
            ) from error
        except httpx.InvalidURL as error:
            raise malformed("an address in it is none") from error

    def pieces(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        """The body as it comes, at most `limit` bytes of it.

        Raises InputError `oci.too_large`; OperationalError `oci.timeout`, `oci.truncated`.
        """
        host = Origin.of(response.url).host
        told = _header(response, "Content-Length")
        if told.isdecimal() and int(told) > limit:
            raise too_large(host, limit)
        waited, total = 0.0, 0
        with self.faults(host):
            pieces = response.iter_raw()
            while True:
                begin = time.monotonic()
                piece = next(pieces, None)
                # The time that the taker of the pieces needs is not the registry's.
                waited += time.monotonic() - begin
                if piece is None:
                    return
                total += len(piece)
                if total > limit:
                    raise too_large(host, limit)
                if total < (waited - self.limits.grace_s) * self.limits.slowest:
                    raise timed_out(host)
                yield piece

    def content(self, response: httpx.Response, limit: int) -> bytes:
        """The whole body, at most `limit` bytes of it."""
        return b"".join(self.pieces(response, limit))

    def document(self, response: httpx.Response, limit: int) -> dict[str, Any]:
        """The body as a JSON object. Raises VerificationError `oci.malformed`."""
        try:
            document = parse_json(self.content(response, limit), limit=limit)
        except InputError as error:
            if error.code.startswith("json."):
                raise malformed("it is not JSON") from error
            raise
        if not isinstance(document, dict):
            raise malformed("it is not a JSON object")
        return document

    def refused(self, response: httpx.Response, what: str) -> OperationalError:
        """What an answer that was not hoped for means, as an error about `what`."""
        host, status = Origin.of(response.url).host, response.status_code
        if status in (401, 403):
            return _denied(Origin.of(response.url), f"it does not permit this: {what}")
        if status in _BUSY:
            return OperationalError(
                "oci.busy",
                f"The registry {host} is too busy to answer ({status}): {what}.",
                "Try again later.",
            )
        return OperationalError(
            "oci.failed",
            f"The registry {host} answered {status}{self._told(response)}: {what}.",
            "Ask whoever runs the registry.",
        )

    def _told(self, response: httpx.Response) -> str:
        """The codes in an error answer (`UNSUPPORTED`), as far as they are such."""
        try:
            errors = self.document(response, _ERROR_ANSWER).get("errors")
        except KeepstoneError:
            return ""
        codes = [
            one["code"]
            for one in (errors if isinstance(errors, list) else [])
            if isinstance(one, dict) and isinstance(one.get("code"), str)
        ]
        plain = [code for code in codes[:3] if code.isascii() and code.replace("_", "").isalpha()]
        return f" ({', '.join(code[:40] for code in plain)})" if plain else ""


def _is_same(origin: Origin, realm: httpx.URL) -> bool:
    """Whether the tokens of a registry are given by the registry itself."""
    there = Origin.of(realm)
    return there == origin or (is_docker_hub(origin.host) and is_docker_hub(there.host))


def _header(response: httpx.Response, name: str) -> str:
    value: str = response.headers.get(name, "")
    return value


def _retry_after(response: httpx.Response) -> float:
    told = _header(response, "Retry-After")
    return float(told) if told.isdecimal() and len(told) < 5 else 0.0


def _no_cookies() -> Any:
    from http.cookiejar import DefaultCookiePolicy

    return DefaultCookiePolicy(allowed_domains=[])


def _denied(origin: Origin, why: str) -> OperationalError:
    return OperationalError(
        "oci.denied",
        f"The registry {origin.host} refuses: {why}.",
        "Log in with docker, podman or skopeo as somebody who may do this.",
    )


def _elsewhere(origin: Origin, why: str) -> OperationalError:
    return OperationalError(
        "oci.redirect",
        f"The registry {origin.host} sends us elsewhere {why}.",
        "Ask whoever runs the registry.",
    )


def timed_out(host: str) -> OperationalError:
    return OperationalError(
        "oci.timeout",
        f"The registry {host} did not answer in time.",
        "Try again, and look what lies between here and the registry.",
    )


def too_large(host: str, limit: int) -> InputError:
    return InputError(
        "oci.too_large", f"The registry {host} sends more than {limit} bytes, which is the limit."
    )
