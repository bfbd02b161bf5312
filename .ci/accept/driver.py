# Sends the webhooks of an errand (JSON on standard input) with urllib; prints one reply as JSON a line.
import base64, json, ssl, sys, urllib.error, urllib.request

errand = json.load(sys.stdin)
proxies = {"http": errand["Proxy"], "https": errand["Proxy"]} if errand["Proxy"] else {}
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler(proxies),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=errand["Roots"])),
)
for hook in errand["Hooks"]:
    body = None if hook["Body"] is None else base64.b64decode(hook["Body"])
    if hook["Chunked"]:
        body = iter([body[i : i + 5000] for i in range(0, len(body), 5000)])
    fields = {f["Name"]: f["Value"] for f in hook["Fields"]}
    request = urllib.request.Request(errand["Base"] + hook["Target"], body, fields, method=hook["Method"])
    reply = {"Name": hook["Name"]}
    try:
        with opener.open(request, timeout=30) as response:
            reply |= {"Status": response.status, "Body": response.read().decode()}
    except urllib.error.HTTPError as e:
        reply |= {"Status": e.code, "Body": e.read().decode()}
    except Exception as e:
        reply["Error"] = f"{type(e).__name__}: {e}"
    print(json.dumps(reply))
