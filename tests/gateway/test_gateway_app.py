"""The guards in order, driven without a network."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from keepstone.contract import elements, protocol, validate
from keepstone.core.digest import Digest
from keepstone.errors import DeniedError, OperationalError
from keepstone.gateway import guards
from keepstone.gateway.app import MAX_OFFLOADED, OFFLOAD_US
from keepstone.gateway.guards import Credentials
from keepstone.gateway.limits import Rate
from keepstone.gateway.problem import PROBLEMS

INFER = "/v2/models/double/infer"


def test_a_good_request_is_served_and_recorded(make, run, body):
    world = make()

    async def test():
        reply = await world.ask(body=body([[1.5, -2]], id="r1"))
        assert reply.status == 200
        assert reply.json() == {
            "model_name": "double",
            "model_version": "1",
            "id": "r1",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3.0, -4.0]}],
        }
        (entry,) = world.log.entries()
        assert entry["decision"] == "served"
        assert entry["principal"] == "user:alice"
        assert reply.headers["keepstone-entry"] == "ks-0-" + "0" * 16

    run(world, test)


@pytest.mark.parametrize("path", ["/v2/models/double/versions/1/infer", "/predict"])
def test_the_other_ways_to_ask(make, run, path, body):
    world = make()
    sent = b'{"inputs":[{"a":1,"b":2}]}' if path == "/predict" else body([[1, 2]])

    async def test():
        reply = await world.ask(path, sent)
        assert reply.status == 200
        assert b"[2.0,4.0]" in reply.body
        assert len(world.log.entries()) == 1

    run(world, test)


def test_binary_answers_carry_their_header_length(make, run, body):
    world = make()

    async def test():
        reply = await world.ask(body=body([[1, 2]], parameters={"binary_data_output": True}))
        length = int(reply.headers["inference-header-content-length"])
        assert json.loads(reply.body[:length])["outputs"][0]["name"] == "y"
        assert np.frombuffer(reply.body[length:], "<f4").tolist() == [2.0, 4.0]

    run(world, test)


def test_binary_requests_carry_theirs(make, run):
    world = make()
    raw = np.array([[1, 2]], "<f4").tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 8}}]}).encode()
    name = b"inference-header-content-length"

    async def test():
        good = ((name, b"%d" % len(header)),)
        assert (await world.ask(body=header + raw, headers=good)).status == 200
        for value in (b"-1", b"+5", b"1e3", b"", b"9" * 16, b"0x10"):
            reply = await world.ask(body=header + raw, headers=((name, value),))
            assert reply.code in ("request.bad_header", "request.malformed")

    run(world, test)


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/%64ouble/infer",
        "/v2/models/double/%69nfer",
        "/v2/models/../models/double/infer",
        "/v2/models/%2e%2e/models/double/infer",
        "/v2/%2e%2e/v2/models/double/infer",
        "//v2/models/double/infer",
        "/v2//models/double/infer",
        "/v2/models/double/infer/",
        "/v2/models/double//infer",
        "/v2/models/double/infer;x=1",
        "/v2/models/double\\infer",
        "/V2/models/double/infer",
        "/v2/models/double/infer%00",
        "/v2/models/double/infer#x",
        "/v2/models/double/versions/2/infer",
        "/v2/models/other/infer",
        "http://t/v2/models/double/infer",
        "*",
        "",
        "/metrics%2f",
        "/admin/%2e%2e/metrics",
        "/v2/health/live/../../../metrics",
        "/v2/health/live%2f..%2f..%2f..%2fmetrics",
    ],
)
def test_only_the_exact_path_is_a_path(make, run, path):
    world = make()

    async def test():
        for method in ("POST", "GET"):
            assert (await world.ask(path, method=method)).code == "route.unknown"
            # And without a credential nobody learns which paths there are.
            assert (await world.ask(path, method=method, key=None)).code == "auth.missing"
        assert world.runtime.calls == 0

    run(world, test)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", INFER, "POST"),
        ("PUT", INFER, "POST"),
        ("DELETE", "/predict", "POST"),
        ("POST", "/v2", "GET"),
        ("POST", "/metrics", "GET"),
        ("HEAD", "/v2/models/double", "GET"),
    ],
)
def test_other_methods_are_refused_by_name(make, run, method, path, allow):
    world = make()

    async def test():
        reply = await world.ask(path, method=method)
        assert reply.code == "route.method"
        assert reply.headers["allow"] == allow

    run(world, test)


# Who


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), "auth.missing"),
        (((b"authorization", b"Basic abc"),), "auth.missing"),
        (((b"authorization", b""),), "auth.missing"),
        (((b"authorization", b"Bearer"),), "auth.missing"),
        (((b"authorization", b"Bearer "),), "auth.missing"),
        (((b"authorization", b"Bearer nonsense"),), "auth.rejected"),
        (((b"authorization", b"Bearer \xff\x00"),), "auth.rejected"),
        (((b"x-api-key", b""),), "auth.missing"),
        (((b"x-api-key", b"ks_"),), "auth.rejected"),
        (((b"x-user", b"user:alice"), (b"x-forwarded-user", b"user:alice")), "auth.missing"),
        (((b"x-api-key", b"a"), (b"x-api-key", b"b")), "request.bad_header"),
        (((b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")), "request.bad_header"),
        (((b"authorization", b"Bearer a"), (b"x-api-key", b"b")), "request.bad_header"),
    ],
)
def test_without_one_good_credential_nothing_is_served(make, run, headers, code):
    world = make()

    async def test():
        for path, method in ((INFER, "POST"), ("/v2", "GET"), ("/metrics", "GET")):
            reply = await world.ask(path, method=method, key=None, headers=headers)
            assert reply.code == code
            assert ("www-authenticate" in reply.headers) is (reply.status == 401)
        assert world.runtime.calls == 0
        assert world.log.entries() == []

    run(world, test)


def test_one_key_in_either_header(make, run):
    world = make()
    key = world.key.encode()

    async def test():
        for header in (
            (b"authorization", b"Bearer " + key),
            (b"authorization", b"bearer  " + key + b" "),
            (b"x-api-key", key),
        ):
            assert (await world.ask(key=None, headers=(header,))).status == 200
        twice = ((b"authorization", b"Bearer " + key), (b"authorization", b"Bearer " + key))
        assert (await world.ask(key=None, headers=twice)).code == "request.bad_header"

    run(world, test)


def test_unknown_wrong_and_malformed_read_alike(make, run):
    world = make()
    stranger = make(names=("other",)).key
    wrong = world.key[:20] + ("A" if world.key[20] != "A" else "B") + world.key[21:]

    async def test():
        replies = [await world.ask(key=key) for key in (stranger, wrong, "ks_short", "token.a.b")]
        assert {reply.body for reply in replies} == {PROBLEMS["auth.rejected"].body}

    run(world, test)


def test_an_expired_and_a_revoked_key_are_told_so(make, run):
    world = make()
    other = world.mint("caller")

    async def test():
        world.ring.revoke(other[3:15], now=world.clock.now)
        assert (await world.ask(key=other)).code == "auth.revoked"
        world.clock.now += 3 * 86_400_000
        assert (await world.ask()).code == "auth.expired"

    run(world, test)


@pytest.mark.parametrize(
    ("role", "model"), [("reader", "double"), ("caller", "other"), ("metrics", "*")]
)
def test_a_key_without_the_grant_is_denied(make, run, role, model):
    world = make()
    key = world.mint(role, model)

    async def test():
        assert (await world.ask(key=key)).code == "policy.denied"
        assert world.runtime.calls == 0

    run(world, test)


def test_the_minted_key_may_predict_and_nothing_else(make, run):
    world = make()

    async def test():
        for path in (
            "/v2/models/double",
            "/v2/models/double/ready",
            "/metrics",
            "/openapi.json",
        ):
            assert (await world.ask(path, method="GET")).code == "policy.denied"

    run(world, test)


def test_a_policy_that_cannot_decide_is_a_no(make, run):
    world = make()

    class Broken:
        def decide(self, principal, action, model=None):
            raise ValueError("boom")

    class Truthy:
        def decide(self, principal, action, model=None):
            return type("Maybe", (), {"allowed": "yes"})()

    async def test(code):
        reply = await world.ask()
        assert reply.code == code
        assert b"boom" not in reply.body
        assert world.runtime.calls == 0

    for authorizer, code in ((Broken(), "internal.error"), (Truthy(), "policy.denied")):
        before = list(world.gateway._before_body)
        before[2] = guards.authorise(authorizer)
        world.gateway._before_body = tuple(before)
        run(world, lambda code=code: test(code))


# Admission


def test_a_withdrawn_model_stops_with_the_next_request(make, run):
    world = make()

    async def test():
        assert (await world.ask()).status == 200
        world.endpoint.withdraw(revoked=True)
        reply = await world.ask()
        assert reply.status == 403
        assert reply.code == "model.revoked"
        world.endpoint.withdraw()
        assert (await world.ask()).code == "model.not_admitted"
        assert world.runtime.calls == 1
        assert len(world.log.entries()) == 1

    run(world, test)


def test_an_admission_ends_at_its_time(make, run):
    world = make()
    world.endpoint.admit(Digest.of(b"another"), world.clock.now + 5)

    async def test():
        world.clock.now += 4
        assert (await world.ask()).status == 200
        world.clock.now += 1
        assert (await world.ask()).code == "model.not_admitted"
        assert (await world.ask("/v2/health/ready", method="GET")).status == 503

    run(world, test)


def test_what_is_withdrawn_while_it_computes_is_not_answered(make, run):
    world = make()
    world.endpoint.typical_us = 1e6
    world.runtime.wait = 0.1

    async def test():
        asked = asyncio.ensure_future(world.ask())
        await asyncio.sleep(0.03)
        world.endpoint.withdraw(revoked=True)
        assert (await asked).code == "model.revoked"
        assert world.runtime.calls == 1
        assert [e["decision"] for e in world.log.entries()] == ["denied:model.revoked"]
        assert world.log.entries()[0]["out"] is None

    run(world, test)


def test_a_slow_model_does_not_hold_up_others(make, run):
    world = make()
    world.endpoint.typical_us = 1e6
    world.runtime.wait = 1

    async def test():
        asked = asyncio.ensure_future(world.ask())
        await asyncio.sleep(0.02)
        assert (await world.ask("/v2/health/live", method="GET", key=None)).status == 200
        assert not asked.done()
        assert (await asked).status == 200

    run(world, test)


def test_one_hiccup_does_not_make_a_model_slow_but_many_do(make, run):
    world = make()

    async def test():
        world.runtime.wait = 0.1
        await world.ask()
        world.runtime.wait = 0
        assert world.endpoint.typical_us < OFFLOAD_US
        world.runtime.wait = 0.005
        for _ in range(16):
            await world.ask()
        assert world.endpoint.typical_us >= OFFLOAD_US
        world.runtime.wait = 0
        for _ in range(30):
            await world.ask()
        assert world.endpoint.typical_us < OFFLOAD_US

    run(world, test)


def test_too_many_slow_predictions_are_refused(make, run):
    world = make()
    world.endpoint.typical_us = 1e6
    world.gateway._offloaded = MAX_OFFLOADED

    async def test():
        assert (await world.ask()).code == "server.busy"

    run(world, test)


# What is sent


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nope", "request.not_json"),
        (b"", "request.not_json"),
        (b"{}", "request.malformed"),
        (b'{"inputs":[]}', "request.missing_input"),
        (b'{"inputs":' + b"[" * 100_000, "request.malformed"),
        (
            b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,NaN]}]}',
            "request.not_finite",
        ),
        (
            b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,101]}]}',
            "request.out_of_range",
        ),
        (
            b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
            "request.bad_shape",
        ),
        (
            b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"INT8","data":[1,2]}]}',
            "request.bad_dtype",
        ),
    ],
)
def test_a_wrong_body_is_refused_and_recorded(make, run, sent, code):
    world = make()

    async def test():
        reply = await world.ask(body=sent)
        assert reply.status == 400
        assert reply.code == code
        assert reply.headers["keepstone-entry"] == "ks-0-" + "0" * 16
        (entry,) = world.log.entries()
        assert entry["decision"] == f"denied:{code}"
        assert entry["in_bytes"] == len(sent)
        assert entry["out"] is None
        assert world.runtime.calls == 0

    run(world, test)


@pytest.mark.parametrize("length", [b"101", b"1" * 40, b"-5", b"0x5", b"5, 5", b"", b"\xb2"])
def test_a_large_or_odd_length_is_refused_before_the_body(make, run, length):
    world = make(max_body=100)

    async def test():
        reply = await world.ask(headers=((b"content-length", length),), chunks=[])
        assert reply.status == 413
        assert reply.headers["connection"] == "close"

    run(world, test)


@pytest.mark.parametrize("chunks", [[b"x" * 101], [b"x" * 60, b"x" * 41, b"x" * 1000]])
def test_a_large_body_is_refused_as_it_comes(make, run, chunks):
    world = make(max_body=100)

    async def test():
        assert (await world.ask(chunks=chunks)).code == "request.too_large"
        (entry,) = world.log.entries()
        assert entry["in_bytes"] == 0

    run(world, test)


def test_a_body_may_come_in_pieces(make, run, body):
    world = make()
    whole = body([[1, 2]])

    async def test():
        pieces = [whole[:10], b"", whole[10:30], whole[30:]]
        assert (await world.ask(chunks=pieces)).status == 200

    run(world, test)


def test_half_a_body_is_no_body(make, run):
    world = make()

    async def test():
        assert (await world.ask(chunks=[])).code == "request.incomplete"

    run(world, test)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"identity, gzip"])
def test_encodings_are_refused(make, run, encoding):
    world = make()

    async def test():
        reply = await world.ask(headers=((b"content-encoding", encoding),))
        assert reply.code == "request.encoding"
        plain = await world.ask(headers=((b"content-encoding", b"Identity"),))
        assert plain.status == 200

    run(world, test)


# Limits


def test_an_address_has_a_limit_before_anything_else(make, run):
    world = make(address=Rate(0.001, 3))

    async def test():
        for _ in range(3):
            assert (await world.ask(key=None)).code == "auth.missing"
        reply = await world.ask()
        assert reply.code == "limit.address"
        assert int(reply.headers["retry-after"]) >= 1
        live = await world.ask("/v2/health/live", method="GET", key=None)
        assert live.code == "limit.address"
        assert (await world.ask(address="192.0.2.2")).status == 200

    run(world, test)


def test_an_ipv6_network_is_one_address_and_a_mapped_one_is_itself(make, run):
    world = make(address=Rate(0.001, 1))

    async def test():
        assert (await world.ask(address="2001:db8::1")).status == 200
        assert (await world.ask(address="2001:db8::ffff")).code == "limit.address"
        assert (await world.ask(address="2001:db8:0:1::1")).status == 200
        assert (await world.ask(address="::ffff:192.0.2.7")).status == 200
        assert (await world.ask(address="192.0.2.7")).code == "limit.address"
        assert (await world.ask(address="fe80::1%eth0")).status == 200

    run(world, test)


def test_a_principal_has_a_limit_over_all_of_its_keys(make, run):
    world = make(principal=Rate(0.001, 2))
    second = world.mint("caller", principal="user:alice")

    async def test():
        assert (await world.ask()).status == 200
        assert (await world.ask(key=second, address="192.0.2.9")).status == 200
        assert (await world.ask(key=second)).code == "limit.principal"
        assert (await world.ask()).code == "limit.principal"
        assert (await world.ask(key=world.mint("caller"))).status == 200

    run(world, test)


def test_a_role_may_have_a_limit_of_its_own(make, run):
    def rate_of(principal):
        roles = {grant.role for grant in principal.grants}
        return Rate(0.001, 3) if "red-team" in roles else None

    world = make(principal=Rate(0.001, 1), rate_of=rate_of)
    tester = world.mint("red-team", principal="user:rita")

    async def test():
        for _ in range(3):
            assert (await world.ask(key=tester)).status == 200
        assert (await world.ask(key=tester)).code == "limit.principal"
        assert (await world.ask()).status == 200
        assert (await world.ask()).code == "limit.principal"

    run(world, test)


# The model fails


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("secret path /etc"), "model.failed"),
        (OperationalError("runtime.failed", "secret"), "model.failed"),
        (OperationalError("model.not_finite", "secret"), "model.not_finite"),
        (MemoryError("secret"), "model.failed"),
    ],
)
def test_a_failing_model_says_nothing_of_itself(make, run, error, code, caplog):
    world = make()
    world.runtime.error = error

    async def test():
        reply = await world.ask()
        assert reply.status == 500
        assert reply.code == code
        assert b"secret" not in reply.body
        assert world.log.entries()[0]["decision"] == f"denied:{code}"

    run(world, test)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (np.array([[np.nan, 1]], np.float32), "model.not_finite"),
        (np.array([[1.0, 1.0]]), "model.bad_output"),
        ("text", "model.failed"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_an_error(make, run, answer, code):
    world = make()
    world.runtime.answer = answer

    async def test():
        assert (await world.ask()).code == code

    run(world, test)


def test_an_exception_anywhere_is_a_refusal(make, run):
    world = make()

    class Odd:
        def authenticate(self, presented, now):
            raise KeyError("secret")

    before = list(world.gateway._before_body)
    before[1] = guards.authenticate(Odd())
    world.gateway._before_body = tuple(before)

    async def test():
        reply = await world.ask()
        assert reply.code == "internal.error"
        assert b"secret" not in reply.body

    run(world, test)


# Reads


def test_only_liveness_is_open(make, run):
    world = make()

    async def test():
        live = await world.ask("/v2/health/live", method="GET", key=None)
        assert live.json() == {"live": True}
        for path in [path.decode() for path in world.gateway._reads.routes]:
            assert (await world.ask(path, method="GET", key=None)).code == "auth.missing"

    run(world, test)


def test_what_a_reader_sees(make, run):
    world = make()
    reader = world.mint("reader")

    async def get(path):
        reply = await world.ask(path, method="GET", key=reader)
        assert reply.headers["cache-control"] == "no-store"
        return reply

    async def test():
        assert (await get("/v2")).json() == {
            "name": "keepstone",
            "version": "9",
            "extensions": ["binary_tensor_data"],
        }
        assert (await get("/v2/health/ready")).json() == {"ready": True}
        metadata = (await get("/v2/models/double")).json()
        assert metadata["inputs"] == [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [-1, 2],
                "parameters": {"low": -100.0, "high": 100.0, "features": ["a", "b"]},
            }
        ]
        assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
        assert (await get("/v2/models/double/versions/1")).json() == metadata
        assert (await get("/v2/models/double/ready")).json() == {"name": "double", "ready": True}
        document = (await get("/openapi.json")).json()
        assert "/v2/models/double/infer" in document["paths"]
        assert "/predict" in document["paths"]
        assert (await get("/metrics")).code == "policy.denied"
        world.endpoint.withdraw()
        assert (await get("/v2/models/double/ready")).status == 503

    run(world, test)


def test_a_reader_of_one_model_learns_of_no_other(make, run):
    world = make(names=("double", "twice"))
    reader = world.mint("reader", "double")

    async def test():
        document = (await world.ask("/openapi.json", method="GET", key=reader)).body
        assert b"twice" not in document
        # With several models there is no single one to predict with.
        assert b"/predict" not in document
        assert (await world.ask("/predict")).code == "route.unknown"
        assert (await world.ask("/v2/models/twice", method="GET", key=reader)).code == (
            "policy.denied"
        )

    run(world, test)


def test_metrics_count_what_happened(make, run):
    world = make()
    scraper = world.mint("metrics", "*")

    async def test():
        await world.ask()
        await world.ask(body=b"nope")
        await world.ask(key=None)
        await world.ask("/nowhere\x00evil")
        reply = await world.ask("/metrics", method="GET", key=scraper)
        assert reply.headers["content-type"].startswith("text/plain")
        lines = reply.body.decode().splitlines()
        for line in (
            'keepstone_requests_total{decision="served",model="double"} 1.0',
            'keepstone_requests_total{decision="request.not_json",model="double"} 1.0',
            'keepstone_requests_total{decision="auth.missing",model="double"} 1.0',
            'keepstone_requests_total{decision="route.unknown",model=""} 1.0',
            'keepstone_prediction_seconds_count{model="double"} 1.0',
            'keepstone_prediction_seconds_bucket{le="+Inf",model="double"} 1.0',
            "keepstone_audit_lost_refusals 0.0",
        ):
            assert line in lines
        assert any(line.startswith("keepstone_admission_expires_seconds{") for line in lines)
        assert b"evil" not in reply.body

    run(world, test)


# Problems


def test_problems_are_rfc_9457_and_name_nothing():
    for code, problem in PROBLEMS.items():
        plain = json.loads(problem.body)
        assert plain.keys() <= {"type", "title", "status", "code", "error", "next_step"}
        assert plain["type"] == f"urn:keepstone:problem:{code}"
        assert plain["status"] == problem.status
        assert plain["title"].endswith(".")
        headers = dict(problem.headers)
        assert headers[b"content-type"] == b"application/problem+json"
        assert int(headers[b"content-length"]) == len(problem.body)
        assert (b"www-authenticate" in headers) is (problem.status == 401)


def test_the_page_lists_every_code():
    page = (Path(__file__).parents[2] / "docs" / "explain" / "gateway.md").read_text()
    codes = set(
        re.findall(
            r"`((?:request|auth|policy|model|route|limit|audit|server|internal)\.\w+)`", page
        )
    )
    known = set(PROBLEMS)
    for module in (protocol, elements, validate):
        known |= set(re.findall(r'"(request\.\w+)"', inspect.getsource(module)))
    grants = {"model.predict", "model.read"}
    assert codes - grants == known | {"request.unknown_input", "request.unknown_output"}


def test_what_a_client_wrote_is_only_quoted_as_json(make, run):
    world = make()
    name = '"}<script>\r\nSet-Cookie: a\x7f\u2028'

    async def test():
        sent = json.dumps(
            {"inputs": [{"name": name, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
        )
        reply = await world.ask(body=sent.encode())
        assert reply.code == "request.unknown_input"
        assert reply.body.isascii()
        assert b"\r" not in reply.body
        assert b"\n" not in reply.body
        assert len(reply.json()["detail"]) < 200

    run(world, test)


def test_tokens_and_keys_go_to_their_own_verifier():
    class Keys:
        def authenticate(self, presented, now):
            return "key", presented, now

    class Tokens:
        def verify(self, token, now):
            return "token", token, now

    both = Credentials(Keys(), Tokens())
    assert both.authenticate(b"ks_x", 5) == ("key", b"ks_x", 5)
    assert both.authenticate(b"a.b.c", 5) == ("token", b"a.b.c", 5)
    assert Credentials(Keys()).authenticate(b"a.b.c", 5) == ("key", b"a.b.c", 5)


def test_an_unforeseen_denial_reads_as_rejected(make, run):
    world = make()

    class Odd:
        def authenticate(self, presented, now):
            raise DeniedError("auth.very_new", "secret")

    before = list(world.gateway._before_body)
    before[1] = guards.authenticate(Odd())
    world.gateway._before_body = tuple(before)

    async def test():
        assert (await world.ask()).body == PROBLEMS["auth.rejected"].body

    run(world, test)


def test_it_speaks_lifespan_and_nothing_else(make):
    world = make()

    async def main():
        told = []
        asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            return next(asked)

        async def send(message):
            told.append(message["type"])

        await world.gateway({"type": "lifespan"}, receive, send)
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(RuntimeError):
            await world.gateway({"type": "websocket"}, receive, send)

    asyncio.run(main())
