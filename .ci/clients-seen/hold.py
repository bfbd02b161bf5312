# Holds the tables of docs/clients.md to what was seen: `hold.py PAGE SEEN ARRIVALS LOG`. SEEN is what the programs of
# this folder printed, ARRIVALS what the destination wrote, LOG the access log of the proxy that wants a token. In a cell
# of the page … stands for any text, "likewise" for that of the refused CONNECT with another status and reason, and where
# there are several texts, any of them may be seen. A version that is not the page's is only told. `hold.py PAGE` prints
# the clients' hosts.
import json, re, shutil, sys
from collections import Counter, defaultdict

SECTION, ANSWERS, AT_CONNECT = "## What a sender sees", ("plain", "X-WhSentry-TLS"), ("refused", "dead", "wrong token")
REFUSAL = "403", "1000 no no", "IP 10.0.0.1 is blocked (1000)"
OTHERS = {
    "dead": ("502", "1006 no later", "connect to 8.8.9.1:81: connection refused (1006)"),
    "wrong token": ("407", "1016 no no", "the client is not known, or its credential is wrong (1016)"),
}
ARRIVING = ("delivered", "token", "certificate", "cut", "unanswered")

SHOWING = {"curl", "requests", "undici ProxyAgent", "undici EnvHttpProxyAgent", "Go"}


def tables(page):
    """Answers by case, and for each client's name its version and its cells by column."""
    answers, clients, columns = {}, defaultdict(dict), None
    for line in page.split(SECTION + "\n")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            columns = None
        elif columns is None:
            columns = cells
        elif cells[0].startswith("---"):
            continue
        elif columns[0] == "case":
            answers[cells[0]] = texts(cells[1])
        else:
            name, _, version = cells[0].rpartition(" ")
            clients[name].update(dict(zip(columns[1:], map(texts, cells[1:]))), version=version)
            for case in OTHERS.keys() & set(columns):
                if cells[columns.index(case)].startswith("likewise"):
                    clients[name][case] = [likewise(case, clients[name]["refused"][0])] + clients[name][case]
    return answers, clients


def likewise(case, text):
    for a, b in zip(REFUSAL, OTHERS[case]):
        text = text.replace(a, b)
    return text


def texts(cell):
    return re.findall(r"`([^`]*)`", cell) or [cell]


def fits(seen, wanted):
    return any(re.fullmatch(re.escape(text).replace("…", ".*"), seen) for text in wanted)


def host(client):
    return re.sub(r"\W+", "-", client).lower() + ".customer.example"


def arrived(file):
    counts = Counter()
    for a in map(json.loads, file):
        counts[(a["host"] + a["path"]).lower()] += 1
        assert not any(f.startswith(("proxy-", "x-whsentry-", "via")) for f in a["fields"]), f"reached the destination: {a}"
    return counts


def tried_without(file):
    """The hosts for which a request with the right token was answered with 407 first."""
    lines = (json.loads(line) for line in file if line.startswith("{") and '"rq_id"' in line)
    refused = (line["url"].partition("://")[2] or line["url"] for line in lines if line["response_code"] == 407)
    return {re.split("[:/]", url)[0].lower() for url in refused if ":444" not in url}


def wanted(answers, client, way, case):
    if case == "certificate":
        return answers["delivered"]
    if case == "token":
        return way == "CONNECT" and client["token"][1:] or answers["delivered"]
    if way in ANSWERS:
        return answers[case] + (client[case] if case == "wrong token" else [])
    if case in AT_CONNECT or way == "CONNECT" and case != "delivered":
        return client[case]
    return answers[case]


def main(page, seen, arrivals, log):
    answers, clients = tables(open(page).read())
    counts, late, wrong, had = arrived(open(arrivals)), tried_without(open(log)), [], defaultdict(set)
    for line in open(seen):
        client, version, way, case, text = line.rstrip("\n").split("\t")
        at = host(client)
        n = counts[re.sub("[^a-z0-9./?]+", "-", f"{at}/{case}?{way}".lower())]
        if n != (case in ARRIVING and not (case == "token" and " 407 " in f" {text} ")):
            text += f", arrived {n} times"
        if not fits(text, wanted(answers, clients[client], way, case)):
            wrong.append(f"{client}, {way}, {case}: {text}")
        if case == "token" and not fits("after a 407" if at in late else "at once", clients[client]["token"][:1]):
            wrong.append(f"{client}: the token is sent {'after a 407' if at in late else 'at once'}")
        if version != clients[client]["version"] and not had[client]:
            print(f"note: {client} is {version} here, {clients[client]['version']} on the page")
        had[client].add((way, case))
    for client in clients:
        if client.startswith("Http") and not shutil.which("java"):
            print(f"skipped {client}: java is not installed")
            continue
        if not {("CONNECT", case) for case in (*answers, "token")} <= had[client]:
            wrong.append(f"{client} did not run, or not all of it")
    shown = {client for client, cases in had.items() if any(case == "certificate" for _, case in cases)}
    if shown != SHOWING:
        wrong.append(f"a certificate was shown by {sorted(shown)}; want {sorted(SHOWING)}")
    for what in wrong:
        print(what)
    print(f"{'FAIL' if wrong else 'ok'} {sum(map(len, had.values()))} times {len(had)} clients saw what the page says")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(*sys.argv[1:])
    else:
        print(*map(host, tables(open(sys.argv[1]).read())[1]), sep="\n")
