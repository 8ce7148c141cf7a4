// An application: reads what its tenant's devices say, and has a device heat when it
// is cold. Prints what it sees.
const rhea = require('rhea')

const [host, port, device, username, password] = process.argv.slice(2)
const container = rhea.create_container()
const connection = container.connect({ host, port: Number(port), username, password, reconnect: false })
const answers = connection.open_receiver({ source: { dynamic: true } })
answers.once('receiver_open', () => {
  const replyTo = answers.source.address
  const commands = connection.open_sender(device + '/commands')
  const telemetry = connection.open_receiver({
    name: device + '-heating',
    source: {
      address: device + '/telemetry/room',
      durable: 2,
      expiry_policy: 'never',
      capabilities: ['shared', 'global'],
      filter: { from: rhea.types.wrap_described('first', 'tributary:from') },
    },
  })
  telemetry.on('message', ({ message }) => {
    console.log('read ' + message.message_annotations['x-opt-device'] + ' ' + text(message))
    commands.send({ subject: 'heat', body: rhea.message.data_section(Buffer.from('on')), correlation_id: 'c1', reply_to: replyTo })
  })
})
answers.on('message', ({ message }) => {
  const { state, status } = message.application_properties
  console.log('told ' + message.correlation_id + ' ' + state + ' ' + status + ' ' + text(message))
  if (state !== 'QUEUED') connection.close()
})
for (const failure of ['rejected', 'connection_error', 'sender_error', 'receiver_error']) {
  container.on(failure, (context) => {
    console.log(failure + ' ' + (context.error || (context.connection && context.connection.error) || ''))
    process.exit(1)
  })
}

function text (message) {
  return Buffer.isBuffer(message.body) ? message.body.toString() : message.body.content.toString()
}
