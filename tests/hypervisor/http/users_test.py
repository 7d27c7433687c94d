# SPDX-License-Identifier: Apache-2.0
"""Two users, a member of the group and root at one socket: what the kernel says of who asks decides what each may change. Needs to
be root, to be the others."""
import json
import os
import subprocess

from served import BIN, Folder, UnixConnection, ask, skip, wait_for

ANNA, BERT, OPERATOR, GROUP = 54001, 54002, 54003, 55001
GIB = 1 << 30


def as_user(uid, groups, work):
    """What `work` returns in a process of that user and those groups, by way of JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            answer = {"answer": work()}
        except OSError as failure:
            answer = {"failure": type(failure).__name__}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.load(pipe)
    os.waitpid(child, 0)
    return answer


def main():
    if os.geteuid() != 0:
        skip("only root can be several users")
    with Folder() as folder:
        path = folder.path / "socket" / "hypervisor.sock"
        path.parent.mkdir()
        folder.path.chmod(0o711)
        path.parent.chmod(0o755)

        def by(uid, method, where, body=None, groups=()):
            answer = as_user(uid, list(groups), lambda: ask(UnixConnection(path), method, where, body)[::2])
            if "failure" in answer:
                return answer["failure"], None
            status, text = answer["answer"]
            found = json.loads(text)
            return status, found.get("error", found) if isinstance(found, dict) else found

        def daemon(*flags):
            return folder.start(BIN / "hypervisor", "daemon", "--api-listen-addr", "none", "--api-socket", path, "--authority-group", GROUP, *flags,
                                stderr=subprocess.DEVNULL)

        # Whoever can connect is asked; who can is what the socket's file says.
        serving = daemon("--api-socket-access", "group")
        wait_for(lambda: path.exists() and path.stat().st_gid == GROUP, "the socket")
        assert path.stat().st_mode & 0o777 == 0o660
        assert by(ANNA, "GET", "/api/v2/tenants")[0] == "PermissionError"
        assert by(OPERATOR, "GET", "/api/v2/tenants", groups=[GROUP])[0] == 200
        serving.terminate()
        serving.wait()

        daemon("--api-socket-access", "all")
        wait_for(lambda: path.exists() and path.stat().st_mode & 0o777 == 0o666, "the socket")
        root = UnixConnection(path)
        wait_for(lambda: ask(root, "GET", "/readyz")[0] == 200, "ready")

        status, made = by(ANNA, "POST", "/api/v2/tenants", {"name": "anna", "gpus": "0", "memory": "8GiB", "compute": 50})
        assert status == 201, made
        assert made["gpus"][0]["quota"]["memory_limit_bytes"] == 8 * GIB
        anna = "/api/v2/tenants/anna"
        # Bert's part is a half now; more is refused with the figures.
        status, refused = by(BERT, "POST", "/api/v2/tenants", {"name": "bert", "gpus": "0", "memory": "12GiB"})
        assert (status, refused["rule"]) == (409, "memory_allowance"), refused
        assert "allowance of 11514 MiB" in refused["message"] and refused["room"][0]["memory_bytes"] > 11 * GIB, refused
        assert by(BERT, "POST", "/api/v2/tenants", {"name": "bert", "gpus": "0", "memory": "4GiB", "compute": 20})[0] == 201
        owners = {t["name"]: t["owner_uid"] for t in wait_for(lambda: two(root), "both tenants")}
        assert owners == {"anna": ANNA, "bert": BERT}, owners
        # Bert can't touch Anna's.
        for method, where, body in (("PATCH", anna, {"memory": "1GiB"}), ("PATCH", anna, {"compute": 60}), ("DELETE", anna, None),
                                    ("PUT", anna + "/name", {"name": "mine"})):
            status, refused = by(BERT, method, where, body)
            assert (status, refused["rule"]) == (403, "not_yours"), (method, refused)
        # Anna can lower, rename and end her own, and raises it within her part.
        assert by(ANNA, "PATCH", anna, {"memory": "2GiB"})[0] == 200
        assert by(ANNA, "PATCH", anna, {"memory": "11GiB"})[0] == 200
        status, refused = by(ANNA, "PATCH", anna, {"memory": "12GiB"})
        assert (status, refused["rule"]) == (409, "memory_allowance") and "11514 MiB would fit" in refused["message"], refused
        status, refused = by(ANNA, "PATCH", anna, {"compute": 51})
        assert (status, refused["rule"]) == (409, "share_allowance"), refused
        # A member of the group, by a supplementary group alone, may do more; another group is nothing.
        status, refused = by(OPERATOR, "PATCH", anna, {"memory": "12GiB"}, groups=[GROUP + 1])
        assert (status, refused["rule"]) == (403, "not_yours"), refused
        assert by(OPERATOR, "PATCH", anna, {"memory": "12GiB"}, groups=[GROUP + 1, GROUP])[0] == 200
        assert by(ANNA, "PUT", anna + "/name", {"name": "hers"})[0] == 200
        assert by(ANNA, "DELETE", "/api/v2/tenants/hers")[0] == 200
        assert ask(root, "DELETE", "/api/v2/tenants/bert")[0] == 200
        print("two users, a group and root")


def two(connection):
    tenants = json.loads(ask(connection, "GET", "/api/v2/tenants")[2])
    return tenants if len(tenants) == 2 else None


main()
