const mqtt = require('mqtt')

const [host, port, device, username, password] = process.argv.slice(2)
const client = mqtt.connect({ host, port: Number(port), protocolVersion: 5, clientId: device, username, password, reconnectPeriod: 0 })
client.on('error', (err) => { console.log('refused ' + err.message); process.exit(1) })
client.on('connect', async () => {
  await client.publishAsync(device + '/telemetry/room', '{"temperature":21.5}', { qos: 1, properties: { contentType: 'application/json' } })
  console.log('sent')
  await client.subscribeAsync(device + '/commands/#', { qos: 1 })
})
client.on('message', async (topic, payload, packet) => {
  const name = topic.split('/').slice(3).join('/')
  const { responseTopic, correlationData } = packet.properties
  await client.publishAsync(responseTopic, '{"ok":true}', { qos: 1, properties: { correlationData, userProperties: { status: '200' } } })
  console.log('obeyed ' + name + ' ' + payload)
  await client.endAsync()
})
