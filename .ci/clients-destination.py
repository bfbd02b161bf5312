# The customer's server for the programs of docs/clients.md: `clients-destination.py CERTIFICATE KEY LOG`, with TLS on
# port 443 and without on port 80. It answers 200 where X-Signature is the body's, else 401; elsewhere it answers 200,
# breaks off within the body (/cut), or closes without a word (/unanswered). It writes every request that arrives to LOG,
# as a line of JSON.
import hashlib, hmac, http.server, json, ssl, sys, threading

certificate, key, log = sys.argv[1:]
arrivals = open(log, "w", buffering=1)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1 << 20))
        signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(signature, self.headers.get("X-Signature", ""))
        tls = isinstance(self.connection, ssl.SSLSocket)
        names = [name.lower() for name in self.headers.keys()]
        arrivals.write(json.dumps({"host": self.headers.get("Host"), "path": self.path, "tls": tls, "signed": signed, "fields": names}) + "\n")
        kind = self.path.partition("?")[0]
        self.close_connection = kind in ("/cut", "/unanswered")
        if kind == "/unanswered":
            return
        welcome = signed or kind != "/hook"
        answer = b"thank you\n" if welcome else b"the signature is not the body's\n"
        self.send_response(200 if welcome else 401)
        self.send_header("Content-Length", str(len(answer) + (kind == "/cut")))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class SecureServer(http.server.ThreadingHTTPServer):
    def get_request(self):
        connection, peer = super().get_request()  # the handshake comes with the first read, in the request's thread
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer


plain = http.server.ThreadingHTTPServer(("", 80), Hook)
threading.Thread(target=plain.serve_forever, daemon=True).start()
SecureServer(("", 443), Hook).serve_forever()
