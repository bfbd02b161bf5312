// Sends the webhooks of an errand (JSON on standard input) with undici or with node:http and https-proxy-agent;
// prints one reply as JSON a line.
import http from 'node:http'
import https from 'node:https'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const errand = JSON.parse(readFileSync(0, 'utf8'))
const base = new URL(errand.Base)
const ca = readFileSync(errand.Roots)
const connectHeaders = Object.fromEntries((errand.Connect ?? []).map((f) => [f.Name, f.Value]))
const send = errand.Kind === 'undici' ? byUndici() : byAgent()

for (const hook of errand.Hooks ?? []) {
  const body = hook.Body === null ? null : Buffer.from(hook.Body, 'base64')
  const headers = Object.fromEntries(hook.Fields.map((f) => [f.Name, f.Value]))
  let reply = { Name: hook.Name }
  try {
    reply = { ...reply, ...(await send(hook, headers, body)) }
  } catch (e) {
    reply.Error = `${e.name}: ${e.message} ${e.cause ?? ''}`
  }
  console.log(JSON.stringify(reply))
}
process.exit(0)

// The ways of undici: no proxy, CONNECT for every URL, or (proxyTunnel: false) the absolute form for http ones.
function byUndici () {
  const { Agent, ProxyAgent } = require('undici')
  const dispatcher = errand.Proxy
    ? new ProxyAgent({
      uri: errand.Proxy, proxyTunnel: errand.Tunnel, headers: connectHeaders, proxyTls: { ca }, requestTls: { ca }
    })
    : new Agent({ connect: { ca } })
  return async (hook, headers, body) => {
    const answer = await dispatcher.request({
      origin: base.origin, path: hook.Target, method: hook.Method, headers, body: hook.Chunked ? pieces(body) : body
    })
    return { Status: answer.statusCode, Body: await answer.body.text() }
  }
}

async function * pieces (body) {
  for (let i = 0; i < body.length; i += 5000) yield body.subarray(i, i + 5000)
}

// node:http and node:https, directly or through https-proxy-agent, which always sends CONNECT.
function byAgent () {
  const client = base.protocol === 'https:' ? https : http
  const { HttpsProxyAgent } = require('https-proxy-agent')
  const agent = errand.Proxy ? new HttpsProxyAgent(errand.Proxy, { ca, headers: connectHeaders }) : new client.Agent()
  return (hook, headers, body) => new Promise((resolve, reject) => {
    if (body !== null && !hook.Chunked) headers['Content-Length'] = body.length
    if (hook.Expect) headers.Expect = '100-continue'
    const request = client.request({
      host: base.hostname, port: base.port, path: hook.Target, method: hook.Method, headers, agent, ca, timeout: 30000
    }, (response) => {
      const parts = [`${response.statusMessage === 'OK' ? '' : response.statusMessage + '\n'}`]
      response.setEncoding('utf8')
      response.on('data', (part) => parts.push(part))
      response.on('end', () => resolve({ Status: response.statusCode, Body: parts.join('') }))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.on('timeout', () => request.destroy(new Error('timed out')))
    const write = async () => {
      if (hook.Chunked) for await (const piece of pieces(body)) request.write(piece)
      request.end(hook.Chunked ? undefined : body ?? undefined)
    }
    if (hook.Expect) request.on('continue', write)
    else write()
  })
}
