// What clients of Node.js see; see seen.py.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import axios from 'axios'
import got from 'got'
import { HttpProxyAgent, HttpsProxyAgent as Hpagent } from 'hpagent'
import { HttpsProxyAgent } from 'https-proxy-agent'
import fetch2 from 'node-fetch'
import { EnvHttpProxyAgent, ProxyAgent, request } from 'undici'

const body = Buffer.from('{"event": "paid"}')
const version = name => createRequire(import.meta.url)(`./node_modules/${name}/package.json`).version
const plain = ['plain', 'X-WhSentry-TLS']
const tunnel = ['CONNECT', 'CONNECT, http']

function answer (status, get, text) {
  const code = get('x-whsentry-reasoncode')
  if (code) return [status, code, get('x-whsentry-delivered'), get('x-whsentry-retry')].join(' ')
  const length = get('content-length') ?? text.length
  return text.length === Number(length) ? `${status}` : `${status}, ${text.length} bytes of ${length}`
}

const byName = headers => name => headers[name]

async function withUndici (dispatcher, url, headers) {
  const r = await request(url, { method: 'POST', body, headers, dispatcher })
  return answer(r.statusCode, byName(r.headers), await r.body.text())
}

async function withAxios (options, url, headers) {
  const r = await axios.post(url, body, { ...options, headers, validateStatus: null, maxRedirects: 0, responseType: 'text' })
  return answer(r.status, byName(r.headers), r.data)
}

async function withFetch (fetch, options, url, headers) {
  const r = await fetch(url, { method: 'POST', body, headers, redirect: 'manual', ...options })
  return answer(r.status, name => r.headers.get(name), await r.text())
}

async function withGot (proxy, url, headers) {
  const agent = { http: new HttpProxyAgent({ proxy }), https: new Hpagent({ proxy }) }
  const r = await got.post(url, { body, headers, agent, throwHttpErrors: false, retry: { limit: 0 }, followRedirect: false })
  return answer(r.statusCode, byName(r.headers), r.body)
}

// axiosProxy is the option `proxy` of axios, which takes no URL.
function axiosProxy (proxy) {
  const { hostname: host, port, username, password } = new URL(proxy)
  return { protocol: 'http', host, port: Number(port), ...(username && { auth: { username, password } }) }
}

const file = name => readFileSync(process.env[name])
const proxyTls = { ca: file('CA'), cert: file('CLIENT_CERT'), key: file('CLIENT_KEY') }

// Name and version, the ways that it knows, and how it sends.
const clients = [
  ['undici ProxyAgent', version('undici'), tunnel, (uri, ...r) => withUndici(new ProxyAgent({ uri, proxyTls }), ...r)],
  ['undici ProxyAgent, proxyTunnel: false', version('undici'), [...plain, 'CONNECT'],
    (p, ...r) => withUndici(new ProxyAgent({ uri: p, proxyTunnel: false }), ...r)],
  ['undici EnvHttpProxyAgent', version('undici'), tunnel,
    (p, ...r) => withUndici(new EnvHttpProxyAgent({ httpProxy: p, httpsProxy: p, noProxy: '', proxyTls }), ...r)],
  ['fetch of Node.js', process.version.slice(1), tunnel, (p, ...r) => withFetch(fetch, { dispatcher: new ProxyAgent(p) }, ...r)],
  ['axios', version('axios'), [...plain, 'CONNECT'], (p, ...r) => withAxios({ proxy: axiosProxy(p) }, ...r)],
  ['axios with https-proxy-agent', version('axios'), tunnel, (p, ...r) =>
    withAxios({ proxy: false, httpAgent: new HttpsProxyAgent(p), httpsAgent: new HttpsProxyAgent(p) }, ...r)],
  ['node-fetch with https-proxy-agent', version('node-fetch'), tunnel, (p, ...r) => withFetch(fetch2, { agent: new HttpsProxyAgent(p) }, ...r)],
  ['got with hpagent', version('got'), tunnel, withGot]
]

const showing = ['undici ProxyAgent', 'undici EnvHttpProxyAgent']
const described = e => `${e.constructor.name}: ${e.message}` + (e.cause ? ` < ${described(e.cause)}` : '')

for (const [client, is, ways, send] of clients) {
  for (const line of readFileSync(process.argv[2], 'utf8').trimEnd().split('\n')) {
    const [way, what, proxy, url] = line.split('\t')
    if (!ways.includes(way) || (what === 'certificate' && !showing.includes(client))) continue
    let seen
    try {
      seen = await send(proxy, url.replace('CLIENT', client.replace(/\W+/g, '-')), way === 'X-WhSentry-TLS' ? { 'X-WhSentry-TLS': 'true' } : {})
    } catch (e) {
      seen = described(e)
    }
    console.log([client, is, way, what, seen.replace(/\s+/g, ' ')].join('\t'))
  }
}
