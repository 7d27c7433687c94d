# SPDX-License-Identifier: Apache-2.0
"""Every answer of every path and method against openapi.yaml; every route is in the file and every line of it is served; then
the same file against the real daemon."""
import http.client
import json

from served import BIN, Folder, SOURCE, UnixConnection, ask, pod_token, skip, token, wait_for

try:
    import jsonschema
    import yaml
except ImportError as missing:
    skip(f"no Python module {missing.name} here (Debian: python3-jsonschema python3-yaml)")

API = yaml.safe_load((SOURCE / "src/hypervisor/http/openapi.yaml").read_text())
METHODS = {"get", "put", "post", "patch", "delete"}


def resolved(node):
    while "$ref" in node:
        name = node["$ref"]
        node = API
        for part in name[2:].split("/"):
            node = node[part]
    return node


def as_json_schema(node):
    """OpenAPI 3.0's `nullable` in JSON Schema's words, references in place."""
    if isinstance(node, list):
        return [as_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = resolved(node)
    made = {key: as_json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [{"type": "null"}, made]} if node.get("nullable") else made


SEEN = set()
STATUSES = {}


def check(method, path, status, headers, text):
    operation = API["paths"][path][method.lower()]
    answer = operation["responses"].get(str(status)) or operation["responses"].get("default")
    assert answer, f"{method} {path}: {status} isn't described"
    answer = resolved(answer)
    kind = headers["Content-Type"].split(";")[0]
    assert kind in answer["content"], f"{method} {path}: {status} is {kind}, described are {list(answer['content'])}"
    schema = as_json_schema(answer["content"][kind]["schema"])
    value = json.loads(text) if kind == "application/json" else text
    try:
        jsonschema.Draft7Validator(schema).validate(value)
    except jsonschema.ValidationError as fault:
        raise AssertionError(f"{method} {path}: {status}: {fault.message} at {list(fault.absolute_path)}") from None
    SEEN.add((method, path))
    STATUSES.setdefault((method, path), set()).add(status)
    return value


def put_in(path, **parts):
    for name, value in parts.items():
        path = path.replace("{" + name + "}", value)
    return path


def call(connection, method, path, expected, query="", body=None, headers=None, gpu="0", tenant="ml.trainer-aaaa"):
    asked = put_in(path, gpu=gpu, tenant=tenant, client="x") + query
    if path == "/api/v2/events/stream" and expected == 200:
        connection.request(method, asked, headers=headers or {})
        answer = connection.getresponse()
        check(method, path, answer.status, answer.headers, "")
        line = answer.readline().decode()
        while not line.startswith("data: "):
            line = answer.readline().decode()
        jsonschema.Draft7Validator(as_json_schema(API["components"]["schemas"]["Event"])).validate(json.loads(line[6:]))
        connection.close()
        return None
    status, answered, text = ask(connection, method, asked, body, headers)
    assert status == expected, f"{method} {asked}: {status}, not {expected}: {text}"
    return check(method, path, status, answered, text)


def by_hand():
    with Folder() as folder:
        port, path, routes = folder.fixture()
        described = {(method.upper(), where) for where, item in API["paths"].items() for method in item if method in METHODS}
        assert set(routes) == described, f"served and not described, or the other way: {set(routes) ^ described}"
        local, far = UnixConnection(path), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        pod = {"Authorization": "Bearer " + pod_token("ml", "trainer")}
        for file in ("/", "/page.css", "/page.js", "/openapi.yaml", "/metrics", "/healthz", "/api/v2/node", "/api/v2/state", "/api/v2/gpus",
                     "/api/v2/gpus/{gpu}", "/api/v2/gpus/{gpu}/history", "/api/v2/tenants", "/api/v2/tenants/{tenant}",
                     "/api/v2/tenants/{tenant}/history", "/api/v2/tenants/{tenant}/why", "/api/v2/histories", "/api/v2/processes",
                     "/api/v2/events"):
            call(local, "GET", file, 200)
        for whole in ("/api/v2/gpus", "/api/v2/tenants", "/api/v2/processes", "/api/v2/histories", "/api/v2/state"):
            assert call(local, "GET", whole, 200), f"{whole}: what it answers with was gone already"
        call(local, "GET", "/api/v2/events/stream", 200, "?after=0")
        call(local, "GET", "/readyz", 503)  # the moment made by hand is long ago
        call(local, "POST", "/api/v1/trap", 501, body={})
        call(local, "POST", "/api/v1/limiter/result", 501)
        call(local, "GET", "/api/v1/limiter/events/{client}", 501)
        # The predecessor's, by a pod's token.
        assert call(far, "GET", "/api/v1/pod", 200, "?container_name=main", headers=pod)["success"] is True
        other = {"Authorization": "Bearer " + pod_token("ml", "nobody")}
        assert call(far, "GET", "/api/v1/pod", 200, headers=other)["success"] is False
        found = call(far, "POST", "/api/v1/process", 200, "?container_name=main&container_pid=7", headers=pod)
        assert found["data"]["host_pid"] == 4711
        assert call(far, "POST", "/api/v1/process", 200, "?container_name=main&container_pid=9", headers=pod)["success"] is False
        call(far, "POST", "/api/v1/process", 400, "?container_name=main", headers=pod)
        call(far, "GET", "/api/v1/pod", 401)
        call(far, "GET", "/api/v1/pod", 401, headers={"Authorization": pod["Authorization"][:-4] + "AAAA"})
        # Changes, and how they are refused.
        call(local, "POST", "/api/v2/tenants", 201, body={"name": "fresh", "memory": "1GiB", "compute": 30})
        assert call(local, "POST", "/api/v2/tenants", 409, body={"memory": "1TiB"})["error"]["room"]
        call(local, "POST", "/api/v2/tenants", 201, body={"name": "flops", "memory": "1GiB", "tflops": 31.5, "tflops_limit": "60"})
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 200, body={"tflops_limit": 60})
        for field in ("tflops", "tflops_limit"):
            for value in (True, [], ""):
                call(local, "POST", "/api/v2/tenants", 400, body={field: value})
        for body in ([], {"nme": "x"}, {"memory": -1}, {"memory": 1.5}, {"oversubscribe": "yes"}, {"name": "a\0b"}):
            call(local, "POST", "/api/v2/tenants", 400, body=body)
        quota = {"memory_limit_bytes": 1 << 30, "share_percent": 30, "limit_percent": None, "policy": "elastic", "priority": "normal",
                 "memory_source": "run", "compute_source": "VGPU_*"}
        uuid = "GPU-00000000-0000-0000-0000-000000000001"
        for body in ({"gpu_count": 1, "memory": "1GiB"}, {"quotas": [{"uuid": uuid, "quota": quota}], "lifetime": "run"},
                     {"quota_each": quota, "gpu_count": 2, "wait": 1.5}, {"wait": "forever", "program": "python"}):
            call(local, "POST", "/api/v2/tenants", 201, body=body)
        for body in ({"gpu_count": -1}, {"gpu_count": "1"}, {"wait": -1}, {"wait": "long"}, {"lifetime": "long"}, {"quotas": []}, {"quotas": 1},
                     {"quotas": [{"uuid": "x", "quota": quota}]}, {"quotas": [{"uuid": uuid, "quota": {**quota, "share_percent": 101}}]},
                     {"quotas": [{"uuid": uuid, "quota": {**quota, "more": 1}}]}, {"quota_each": []}):
            call(local, "POST", "/api/v2/tenants", 400, body=body)
        call(local, "POST", "/api/v2/tenants/{tenant}/taken", 200)
        call(local, "POST", "/api/v2/tenants/{tenant}/taken", 404, tenant="nobody")
        call(local, "POST", "/api/v2/tenants/{tenant}/taken", 400, body={"x": 1})
        assert call(local, "POST", "/api/v2/join", 200, body={})["tenant"] == "rule-x"
        assert call(local, "POST", "/api/v2/join", 200, headers=pod)["outcome"] == "refused", "a pod's token over the socket says which tenant"
        assert call(local, "POST", "/api/v2/join", 200, headers={"Authorization": "Bearer x"})["tenant"] == "rule-x", "one that doesn't hold says nothing"
        call(far, "POST", "/api/v2/join", 400, headers={"Authorization": "Bearer " + token(sub="x", scope="vgpu:write")})
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 200, body={"compute": "40"})
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 200, body={"memory": "1GiB", "when_free": True, "source": "run"})
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 400, body={"source": "HAMi"})
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 404, body={"compute": "40"}, tenant="nobody")
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 400, body={"name": "x"})
        call(local, "PUT", "/api/v2/tenants/{tenant}/name", 200, body={"name": "new"})
        call(local, "PUT", "/api/v2/tenants/{tenant}/name", 400, body={})
        call(local, "DELETE", "/api/v2/tenants/{tenant}", 200, "?with_processes=true&grace_ms=5")
        call(local, "DELETE", "/api/v2/tenants/{tenant}", 400, "?with_processes=perhaps")
        call(local, "DELETE", "/api/v2/tenants/{tenant}", 404, tenant="nobody")
        # What isn't there, and what isn't understood.
        call(local, "GET", "/api/v2/gpus/{gpu}", 404, gpu="9")
        call(local, "GET", "/api/v2/tenants/{tenant}", 404, tenant="%3Cscript%3E")
        call(local, "GET", "/api/v2/gpus/{gpu}/history", 400, "?resolution=years")
        call(local, "GET", "/api/v2/tenants/{tenant}/history", 404, "?gpu=9")
        call(local, "GET", "/api/v2/events", 400, "?after=-1")
        call(local, "GET", "/api/v2/tenants/{tenant}/why", 404, tenant="nobody")
        for seconds in ("0", "601", "x"):
            call(local, "GET", "/api/v2/histories", 400, "?seconds=" + seconds)
        series = call(local, "GET", "/api/v2/histories", 200, "?seconds=1")["series"]
        assert [one["got_percent"] for one in series if one["tenant"] == "ml.trainer-aaaa"] == [[None]], series
        assert len(call(local, "GET", "/api/v2/events", 200, "?limit=2")["events"]) == 2
        assert len(call(local, "GET", "/api/v2/processes", 200, "?unlimited=true")) == 1
        assert len(call(local, "GET", "/api/v2/processes", 200, "?tenant=ml.trainer")) == 1
        # Who may do what over TCP.
        reader, writer = ({"Authorization": "Bearer " + token(scope=scope)} for scope in ("vgpu:read", "vgpu:read vgpu:write"))
        call(far, "GET", "/api/v2/state", 200, headers=reader)
        call(far, "DELETE", "/api/v2/tenants/{tenant}", 403, headers=reader)
        call(far, "POST", "/api/v2/tenants", 400, body={"lifetime": "run"}, headers=writer)
        call(far, "DELETE", "/api/v2/tenants/{tenant}", 200, headers=writer)
        call(far, "GET", "/api/v2/state", 403, headers=pod)
        call(far, "GET", "/api/v2/state", 401, headers={"Authorization": "Bearer " + token(scope="vgpu:read", aud="other")})
        missing = described - SEEN
        assert not missing, f"never asked: {missing}"
        print(f"{len(described)} routes, as described")


def by_daemon():
    with Folder() as folder:
        port = folder.daemon()
        local = UnixConnection(folder.path / "state" / "hypervisor.sock")
        wait_for(lambda: ask(local, "GET", "/readyz")[0] == 200, "ready")
        assert call(local, "GET", "/readyz", 200) == "ok"
        made = call(local, "POST", "/api/v2/tenants", 201, body={"name": "ml.trainer", "gpus": "0", "memory": "4GiB", "compute": 30})
        seen = wait_for(lambda: [t for t in json.loads(ask(local, "GET", "/api/v2/tenants")[2]) if t["id"] == made["id"]], "the tenant")[0]
        quota = seen["gpus"][0]["quota"]
        assert (quota["memory_limit_bytes"], quota["share_percent"]) == (4 << 30, 30), quota
        # A program in it, started by the tool.
        folder.start(BIN / "vgpu", "exec", "ml.trainer", "--", *folder.work("train"), stdout=-3, stderr=-3)
        wait_for(lambda: json.loads(ask(local, "GET", "/api/v2/processes?tenant=ml.trainer")[2]), "its process")
        changed = call(local, "PATCH", "/api/v2/tenants/{tenant}", 200, body={"compute": 40}, tenant=made["id"])
        assert changed["gpus"][0]["after"]["share_percent"] == 40
        call(local, "PATCH", "/api/v2/tenants/{tenant}", 400, body={"compute": "lots"}, tenant=made["id"])
        for method, path in (("PATCH", "/api/v2/tenants/{tenant}"), ("POST", "/api/v2/tenants")):
            refused = call(local, method, path, 400, body={"tflops": 60}, tenant=made["id"])
            assert "tflops" in refused["error"]["message"] and "gpu-info" in refused["error"]["message"], "without a table none is taken"
        refused = call(local, "POST", "/api/v2/tenants", 409, body={"name": "big", "gpus": "0", "compute": 70})
        assert refused["error"]["kind"] == "no_room", refused
        call(local, "PUT", "/api/v2/tenants/{tenant}/name", 200, body={"name": "ml.other"}, tenant=made["id"])
        for path in ("/api/v2/node", "/api/v2/state", "/api/v2/gpus", "/api/v2/gpus/{gpu}", "/api/v2/gpus/{gpu}/history", "/api/v2/tenants",
                     "/api/v2/tenants/{tenant}", "/api/v2/tenants/{tenant}/history", "/api/v2/processes", "/api/v2/events", "/metrics"):
            call(local, "GET", path, 200, tenant=made["id"])
        call(local, "GET", "/api/v2/events/stream", 200, "?after=0")
        # The daemon's user reads over loopback, and changes nothing.
        far = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        call(far, "GET", "/api/v2/state", 200)
        status, _, text = ask(far, "DELETE", f"/api/v2/tenants/{made['id']}")
        assert status in (401, 403), (status, text)
        call(local, "DELETE", "/api/v2/tenants/{tenant}", 200, "?with_processes=true&grace_ms=1000", tenant=made["id"])
        wait_for(lambda: not [t for t in json.loads(ask(local, "GET", "/api/v2/tenants")[2]) if t["id"] == made["id"]], "its end")
        print("the daemon, as described")


by_hand()
by_daemon()
