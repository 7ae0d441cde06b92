// @grpc/grpc-js through the proxy's CONNECT (it reads http_proxy itself), or straight to the proxy's address.
const [how, address, modules] = process.argv.slice(2)
const grpc = require(require.resolve('@grpc/grpc-js', { paths: [modules] }))

const same = bytes => bytes
const method = (path, stream) => ({ path, requestStream: stream, responseStream: stream, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same })
const Client = grpc.makeGenericClientConstructor({ unary: method('/echo/unary', false), stream: method('/echo/stream', true) }, 'echo')
const options = how === 'tunnel' ? {} : { 'grpc.default_authority': 'web:8080', 'grpc.enable_http_proxy': 0 }
const client = new Client(how === 'tunnel' ? 'web:8080' : address, grpc.credentials.createInsecure(), options)

const deadline = () => ({ deadline: Date.now() + 15_000 })
client.unary(Buffer.from('hello'), new grpc.Metadata(), deadline(), (error, answer) => {
  if (error) throw error
  console.log('unary', answer.toString())
  const call = client.stream(new grpc.Metadata(), deadline())
  const answers = []
  call.on('data', message => answers.push(message.toString()))
  call.on('error', problem => { throw problem })
  call.on('end', () => {
    console.log('stream', answers.join(','))
    client.close()
  })
  for (const message of ['a', 'b', 'c']) call.write(Buffer.from(message))
  call.end()
})
