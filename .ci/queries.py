"""Asks a Prometheus what the dashboard and the alerts ask: every query must be understood, and those of the dashboard
must find something. Arguments: the ports of a web server, of whsentry, of its metrics, and of Prometheus."""
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

MONITORING = "deploy/chart/monitoring/"
web, proxy, metrics, prometheus = sys.argv[1:]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
proxied = urllib.request.build_opener(urllib.request.ProxyHandler({"http": "http://127.0.0.1:" + proxy}))


def wait(url, what):
    for _ in range(150):
        try:
            return direct.open(url, timeout=5).read()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit("no answer from " + what)


def traffic():
    for host in ["127.0.0.1:" + web, "127.0.0.2", "10.0.0.1"]:  # delivered, refused by two rules
        try:
            proxied.open("http://" + host + "/", timeout=10).read()
        except urllib.error.HTTPError as refusal:
            refusal.read()


def ask(path, **query):
    url = "http://127.0.0.1:" + prometheus + path + "?" + urllib.parse.urlencode(query)
    try:
        return json.load(direct.open(url, timeout=10))
    except urllib.error.HTTPError as error:
        return json.load(error)


def expressions():
    dashboard = json.load(open(MONITORING + "dashboard.json"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def problems():
    """What does not hold as yet, and how many queries and alerts there are."""
    wrong, asked = [], 0
    for title, expr in expressions():
        expr = expr.replace("$__rate_interval", "30s").replace("$job", "whsentry").replace("$instance", ".*")
        assert "$" not in expr, expr
        answer = ask("/api/v1/query", query=expr)
        asked += 1
        if answer["status"] != "success":
            wrong.append("%s: %s: %s" % (title, expr, answer["error"]))
        elif not answer["data"]["result"]:
            wrong.append("%s: %s: finds nothing" % (title, expr))
    rules = [rule for group in ask("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            wrong.append("%s: %s" % (rule["name"], rule.get("lastError", "not evaluated")))
    declared = len(re.findall(r"^ +- alert:", open(MONITORING + "alerts.yaml").read(), re.M))
    if asked < 30 or len(rules) != declared:
        wrong.append("%d queries, %d alerts of %d" % (asked, len(rules), declared))
    return wrong, asked, len(rules)


wait("http://127.0.0.1:%s/readyz" % metrics, "whsentry")
wait("http://127.0.0.1:%s/-/ready" % prometheus, "Prometheus")
traffic()
for _ in range(100):
    if ask("/api/v1/query", query="sum(count_over_time(whsentry_requests_total[1m]))")["data"]["result"]:
        break
    time.sleep(0.1)
for _ in range(4):
    traffic()
    time.sleep(0.6)

# A rate wants two samples of its series, and a rule is evaluated some time after it was read.
until = time.monotonic() + 60
wrong, asked, alerts = problems()
while wrong and time.monotonic() < until:
    traffic()
    time.sleep(0.6)
    wrong, asked, alerts = problems()
for line in wrong:
    print("FAIL queries:", line)
if wrong:
    sys.exit(1)
print("ok %d queries of the dashboard find something, %d alerts are understood" % (asked, alerts))
