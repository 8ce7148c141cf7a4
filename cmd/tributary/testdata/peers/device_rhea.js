const fs = require('fs')
const rhea = require('rhea')

const [host, port, device, username, password] = process.argv.slice(2)
const container = rhea.create_container({ id: device })
let command
container.on('connection_open', (context) => {
  context.connection.open_sender(device + '/telemetry/room').once('sendable', (c) => {
    c.sender.send({ content_type: 'application/json', body: rhea.message.data_section(Buffer.from('{"temperature":21.5}')) })
  })
})
container.on('accepted', (context) => {
  if (!command) {
    console.log('sent')
    context.connection.open_receiver(device + '/commands')
    return
  }
  console.log('obeyed ' + command.subject + ' ' + body(command))
  context.connection.close()
})
container.on('message', (context) => {
  command = context.message
  context.connection.open_sender(command.reply_to).once('sendable', (c) => {
    c.sender.send({
      correlation_id: command.message_id,
      application_properties: { status: 200 },
      body: rhea.message.data_section(Buffer.from('{"ok":true}')),
    })
  })
})
for (const failure of ['rejected', 'connection_error', 'sender_error', 'receiver_error', 'disconnected']) {
  container.on(failure, (context) => {
    if (failure === 'disconnected' && command) return
    console.log(failure + ' ' + (context.error || (context.connection && context.connection.error) || ''))
    process.exit(1)
  })
}
const read = (name) => process.env[name] && fs.readFileSync(process.env[name])
const tls = { ca: read('PEER_CA'), cert: read('PEER_CERT'), key: read('PEER_KEY') }
const options = { host, port: Number(port), username, password, reconnect: false }
if (tls.ca) Object.assign(options, { transport: 'tls', servername: host, ...tls })
if (tls.cert) options.enable_sasl_external = true
if (process.env.PEER_WEB) {
  const open = container.websocket_connect(require('ws'))
  const url = (tls.ca ? 'wss' : 'ws') + '://' + host + ':' + port + '/amqp'
  options.connection_details = open(url, ['amqp'], tls)
}
container.connect(options)

function body (message) {
  return Buffer.isBuffer(message.body) ? message.body.toString() : message.body.content.toString()
}
