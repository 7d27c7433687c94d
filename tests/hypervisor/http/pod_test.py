# SPDX-License-Identifier: Apache-2.0
"""A pod's program under our limiter and our daemon, by REST alone: its state directory is its own, as in a container. It gets the exact
quota, follows its changes, and is told what is wrong where it gets none."""
import json
import re
import subprocess

from served import BIN, SECRET, Folder, UnixConnection, ask, pod_token, wait_for


def main():
    with Folder() as folder:
        simulated = BIN.parent / "lib" / "vgpu" / "simulated"
        key = folder.path / "key"
        key.write_bytes(SECRET)
        key.chmod(0o600)
        daemon = folder.start(BIN / "hypervisor", "daemon", "--simulated", "--api-listen-addr", "127.0.0.1:0", "--api-token-key", key,
                              stderr=open(folder.path / "said", "w"))
        found = wait_for(lambda: re.search(r"listening on 127\.0\.0\.1:(\d+)", (folder.path / "said").read_text()), "its port")
        local = UnixConnection(folder.path / "state" / "hypervisor.sock")
        wait_for(lambda: ask(local, "GET", "/readyz")[0] == 200, "ready")
        token = folder.path / "token"
        token.write_text(pod_token("ml", "trainer") + "\n")
        (folder.path / "pod").mkdir(mode=0o700)
        pod = {"PATH": f"{simulated}:/usr/bin:/bin", "LD_LIBRARY_PATH": str(simulated), "LD_PRELOAD": str(BIN.parent / "lib/vgpu/libcuda_limiter.so"),
               "VGPU_SIM_STATE": str(folder.path / "sim"), "VGPU_SIM_DEVICES": folder.environment["VGPU_SIM_DEVICES"],
               "VGPU_STATE_DIR": str(folder.path / "pod"), "HYPERVISOR_IP": "127.0.0.1", "HYPERVISOR_PORT": found[1],
               "POD_NAMESPACE": "ml", "POD_NAME": "trainer", "CONTAINER_NAME": "main", "TF_ISOLATION_MODE": "soft", "VGPU_POD_TOKEN": str(token)}

        def smi(**more):
            done = subprocess.run([simulated / "nvidia-smi"], env={**pod, **more}, capture_output=True, text=True, timeout=60, check=False)
            return done.returncode, [int(mib) for mib in re.findall(r"/\s+(\d+)MiB", done.stdout)], done.stderr

        def tenants():
            listed = subprocess.run([BIN / "vgpu", "ls", "--simulated", "--json"], env={**pod, "LD_PRELOAD": ""}, capture_output=True, text=True,
                                    timeout=60, check=True)
            return json.loads(listed.stdout)["tenants"]

        # No tenant yet, and a token of nobody's.
        status, _, said = smi()
        assert status != 0 and "pod trainer of namespace ml isn't a tenant of this node" in said and said.count("\n") == 1, said
        (folder.path / "other").write_text(pod_token("ml", "trainer")[:-4] + "AAAA")
        status, _, said = smi(VGPU_POD_TOKEN=str(folder.path / "other"))
        assert status != 0 and "answers 401" in said and said.count("\n") == 1, said

        status, _, text = ask(local, "POST", "/api/v2/tenants",
                              {"name": "ml.trainer", "gpus": "1", "memory": "8GiB", "compute": 30, "compute_limit": 60, "priority": "low"})
        assert status == 201, text
        wait_for(lambda: smi()[:2] == (0, [8192]), "its quota: one GPU of the two, and 8 GiB of it")

        # A program that goes on, by the exact quota.
        words = folder.work("train")
        folder.environment = pod
        running = folder.start(*words, stdout=subprocess.DEVNULL, stderr=open(folder.path / "work", "w"))
        tenant, = wait_for(tenants, "its tenant")
        assert tenant["name"] == "ml.trainer" and len(tenant["gpus"]) == 1, tenant
        gpu = tenant["gpus"][0]
        assert (gpu["index"], gpu["memory"]["limit_bytes"]) == (1, 8 << 30), gpu
        compute = gpu["compute"]
        assert [compute[key] for key in ("share_percent", "limit_percent", "policy", "priority")] == [30, 60, "elastic", "low"], gpu
        status, _, text = ask(local, "PATCH", "/api/v2/tenants/ml.trainer", {"memory": "6GiB", "compute": 20})
        assert status == 200, text
        wait_for(lambda: smi()[:2] == (0, [6144]), "the change, by the one that asks for all")
        assert running.poll() is None, (folder.path / "work").read_text()
        # Without a daemon it goes on under what was said last.
        daemon.terminate()
        daemon.wait()
        assert smi()[:2] == (0, [6144])
        assert running.poll() is None
        running.terminate()
        running.wait()
        # And the next one isn't let in, nor does it abort.
        status, _, said = smi()
        assert 0 < status < 128 and "HYPERVISOR_IP=\"127.0.0.1\"" in said and "connection refused" in said, (status, said)
        assert smi(VGPU_ON_ERROR="open")[0] == 0
        print("a pod by REST alone")


main()
