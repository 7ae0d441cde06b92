// Node's fetch. It knows no http_proxy by itself, so it speaks to the proxy's own address and names the service in Host.
import http from 'node:http'

const [proxy] = process.argv.slice(2)
const [host, port] = proxy.split(':')

// fetch forbids setting Host; node:http is what most libraries of Node stand on, and it does as it is told.
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

// Straight at a pod's port, as a client without a proxy does: the server's proxy answers.
const direct = process.argv[3]
const fetched = await fetch(`http://${direct}/echo`, { method: 'POST', body: 'fetched' })
console.log('fetch', fetched.status, await fetched.text())
const streamed = await fetch(`http://${direct}/bytes/3000000`)
console.log('stream', (await streamed.arrayBuffer()).byteLength)
