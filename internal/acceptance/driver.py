# Sends the webhooks of an errand (JSON on standard input) with urllib; prints one reply as JSON a line.
import base64, http.client, json, socket, ssl, sys, urllib.error, urllib.parse, urllib.request

errand = json.load(sys.stdin)
context = ssl.create_default_context(cafile=errand["Roots"])
proxies = {"http": errand["Proxy"], "https": errand["Proxy"]} if errand["Proxy"] else {}
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler(proxies),
    urllib.request.HTTPSHandler(context=context),
)


# urllib cannot speak TLS to a proxy, so here is the absolute form over a socket.
def over_tls(method, url, fields, body):
    proxy = urllib.parse.urlsplit(errand["Proxy"])
    fields |= {"Host": urllib.parse.urlsplit(url).netloc, "Content-Length": len(body)}
    lines = [f"{method} {url} HTTP/1.1"] + [f"{name}: {value}" for name, value in fields.items()]
    with socket.create_connection((proxy.hostname, proxy.port), 30) as plain:
        with context.wrap_socket(plain, server_hostname=proxy.hostname) as secure:
            secure.sendall("\r\n".join(lines + ["", ""]).encode() + body)
            response = http.client.HTTPResponse(secure, method=method)
            response.begin()
            return {"Status": response.status, "Body": response.read().decode()}


def by_urllib(method, url, fields, body):
    try:
        with opener.open(urllib.request.Request(url, body, fields, method=method), timeout=30) as response:
            return {"Status": response.status, "Body": response.read().decode()}
    except urllib.error.HTTPError as e:
        return {"Status": e.code, "Body": e.read().decode()}


send = over_tls if errand["Proxy"].startswith("https:") else by_urllib
for hook in errand["Hooks"]:
    body = None if hook["Body"] is None else base64.b64decode(hook["Body"])
    if hook["Chunked"]:
        body = iter([body[i : i + 5000] for i in range(0, len(body), 5000)])
    fields = {f["Name"]: f["Value"] for f in hook["Fields"]}
    reply = {"Name": hook["Name"]}
    try:
        reply |= send(hook["Method"], errand["Base"] + hook["Target"], fields, body)
    except Exception as e:
        reply["Error"] = f"{type(e).__name__}: {e}"
    print(json.dumps(reply))
