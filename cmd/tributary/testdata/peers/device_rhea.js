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
container.connect({ host, port: Number(port), username, password, reconnect: false })

function body (message) {
  return Buffer.isBuffer(message.body) ? message.body.toString() : message.body.content.toString()
}
