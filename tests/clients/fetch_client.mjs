// Node's own http and fetch. Neither reads http_proxy by itself in every version that is in use, so each is told of the proxy in the
// way that its users do: http with an absolute path, fetch by undici's ProxyAgent as global dispatcher.
import http from 'node:http'
import { createRequire } from 'node:module'

const [proxy, modules] = process.argv.slice(2)
const { ProxyAgent, setGlobalDispatcher } = createRequire(`${modules}/`)('undici')
const [host, port] = proxy.split(':')

function get(path, options = {}, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, path: `http://web:8080${path}`, headers: { host: 'web:8080', ...options.headers }, method: options.method ?? 'GET' }, response => {
      const pieces = []
      response.on('data', piece => pieces.push(piece))
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(pieces) }))
    })
    request.on('error', reject)
    request.end(body)
  })
}

console.log('http', (await get('/')).status)
console.log('post', (await get('/echo', { method: 'POST' }, Buffer.alloc(100_000))).body.length)

setGlobalDispatcher(new ProxyAgent(process.env.http_proxy))
const fetched = await fetch('http://web:8080/echo', { method: 'POST', body: 'fetched' })
console.log('fetch', fetched.status, await fetched.text())
const streamed = await fetch('http://web:8080/bytes/3000000')
console.log('stream', (await streamed.arrayBuffer()).byteLength)
process.exit(0)
