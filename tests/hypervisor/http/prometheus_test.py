# SPDX-License-Identifier: Apache-2.0
"""/metrics as Prometheus takes it: promtool's rules for names, a real server that scrapes the daemon, and the alert rules and
the dashboard of deploy/, whose every metric has to be one that is served."""
import http.client
import json
import re
import socket
import subprocess
import urllib.parse

from served import Folder, SOURCE, UnixConnection, ask, needed, wait_for

PROMTOOL, PROMETHEUS = needed("promtool", "prometheus"), needed("prometheus", "prometheus")
DEPLOY = SOURCE / "deploy"
METRIC = re.compile(r"\b(?:vgpu|process)_[a-z0-9_]+\b")


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0 and not done.stderr.strip(), f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def families(text):
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def deploy_is_sound(folder, served):
    run(PROMTOOL, "check", "rules", DEPLOY / "alerts.yml")
    run(PROMTOOL, "test", "rules", "alerts_test.yml", cwd=DEPLOY)
    expressions = [target["expr"] for panel in json.loads((DEPLOY / "dashboard.json").read_text())["panels"] for target in panel["targets"]]
    rules = {"groups": [{"name": "dashboard", "rules": [
        {"record": f"dashboard:{i}", "expr": re.sub(r"\$__rate_interval", "1m", expression)} for i, expression in enumerate(expressions)]}]}
    (folder.path / "dashboard.yml").write_text(json.dumps(rules))
    run(PROMTOOL, "check", "rules", folder.path / "dashboard.yml")
    alerts = re.findall(r"expr:\s*(?:>\s*)?((?:.|\n)*?)(?=\n\s*(?:for|labels):)", (DEPLOY / "alerts.yml").read_text())
    for text in expressions + alerts:
        for name in METRIC.findall(re.sub(r'"[^"]*"', "", text)):
            assert name in served, f"deploy/ uses {name}, which isn't served"


def names_are_prometheus_own():
    with Folder() as folder:
        _, path, _ = folder.fixture()
        text = ask(UnixConnection(path), "GET", "/metrics")[2]
        run(PROMTOOL, "check", "metrics", input=text)
        documented = set(METRIC.findall((SOURCE / "docs/http.md").read_text()))
        assert families(text) <= documented, f"not in docs/http.md: {families(text) - documented}"
        deploy_is_sound(folder, families(text))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def query(port, text):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return json.loads(ask(connection, "GET", "/api/v1/query?query=" + urllib.parse.quote(text))[2])["data"]["result"]
    except (OSError, ValueError, KeyError):
        return []


def a_server_scrapes_the_daemon():
    with Folder() as folder:
        port = folder.daemon()
        folder.tenant("train", 30)
        (folder.path / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s"}, "rule_files": [str(DEPLOY / "alerts.yml")],
            "scrape_configs": [{"job_name": "vgpu", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}))
        own = free_port()
        folder.start(PROMETHEUS, f"--config.file={folder.path}/prometheus.yml", f"--storage.tsdb.path={folder.path}/tsdb",
                     f"--web.listen-address=127.0.0.1:{own}", stdout=-3, stderr=-3)
        wait_for(lambda: [r for r in query(own, "up") if r["value"][1] == "1"], "a scrape")
        limit = wait_for(lambda: query(own, 'vgpu_tenant_memory_limit_bytes{tenant="train"}'), "the tenant's limit")
        assert float(limit[0]["value"][1]) == 4 << 30, limit
        share = query(own, 'vgpu_tenant_share_ratio{tenant="train"}')
        assert float(share[0]["value"][1]) == 0.3, share
        wait_for(lambda: [r for r in query(own, 'rate(vgpu_tenant_gpu_time_seconds_total{tenant="train"}[10s])') if float(r["value"][1]) > 0],
                 "GPU time that grows")
        print("scraped")


names_are_prometheus_own()
a_server_scrapes_the_daemon()
