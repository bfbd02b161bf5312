# What requests, httpx, urllib3 and aiohttp see: `seen.py CASES`. A line of CASES is WAY, CASE, the proxy's URL and the
# destination's, with tabs between, in which CLIENT stands for the client's own host; what is printed is the client, its
# version, WAY, CASE and what was seen.
import asyncio, os, ssl, sys
from urllib.parse import urlsplit

import aiohttp, httpx, requests, urllib3

BODY = b'{"event": "paid"}'
FIELDS = ("X-WhSentry-ReasonCode", "X-WhSentry-Delivered", "X-WhSentry-Retry")


def answer(status, headers, body):
    if headers.get(FIELDS[0]):
        return " ".join([str(status)] + [headers[name] for name in FIELDS])
    length = headers.get("Content-Length", len(body))
    return str(status) if int(length) == len(body) else f"{status}, {len(body)} bytes of {length}"


class ShowsCertificate(requests.adapters.HTTPAdapter):
    """For an https listener that demands a client certificate: in a tunnel. Else it is session.cert that it is shown."""

    def proxy_manager_for(self, proxy, **options):
        context = ssl.create_default_context(cafile=os.environ["CA"])
        context.load_cert_chain(os.environ["CLIENT_CERT"], os.environ["CLIENT_KEY"])
        return super().proxy_manager_for(proxy, proxy_ssl_context=context, **options)


def with_requests(proxy, url, headers):
    with requests.Session() as session:
        session.trust_env = False
        if proxy.startswith("https:"):
            session.mount("https://", ShowsCertificate())
            if url.startswith("http:"):
                session.cert = os.environ["CLIENT_CERT"], os.environ["CLIENT_KEY"]
        session.proxies = {"http": proxy, "https": proxy}
        r = session.post(url, data=BODY, headers=headers, timeout=(25, 75))
        return answer(r.status_code, r.headers, r.content)


def with_httpx(proxy, url, headers):
    with httpx.Client(transport=httpx.HTTPTransport(proxy=httpx.Proxy(proxy)), timeout=75) as client:
        r = client.post(url, content=BODY, headers=headers)
        return answer(r.status_code, r.headers, r.content)


def with_urllib3(proxy, url, headers):
    user = urlsplit(proxy).netloc.rpartition("@")[0]
    login = urllib3.make_headers(proxy_basic_auth=user) if user else {}
    with urllib3.ProxyManager(proxy, proxy_headers=login, retries=False) as pool:
        r = pool.request("POST", url, body=BODY, headers=headers)
        return answer(r.status, r.headers, r.data)


def with_aiohttp(proxy, url, headers):
    async def send():
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=BODY, headers=headers, proxy=proxy) as r:
                return answer(r.status, r.headers, await r.read())

    return asyncio.run(send())


for client, send in ((requests, with_requests), (httpx, with_httpx), (urllib3, with_urllib3), (aiohttp, with_aiohttp)):
    for line in open(sys.argv[1]):
        way, case, proxy, url = line.rstrip("\n").split("\t")
        if way == "CONNECT, http" or case == "certificate" and client is not requests:
            continue
        try:
            seen = send(proxy, url.replace("CLIENT", client.__name__), {"X-WhSentry-TLS": "true"} if way == "X-WhSentry-TLS" else {})
        except Exception as e:
            seen = f"{type(e).__name__}: {e}"
        print(client.__name__, client.__version__, way, case, " ".join(seen.split()), sep="\t")
