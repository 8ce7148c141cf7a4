const fs = require('fs')
const mqtt = require('mqtt')

const [host, port, device, username, password] = process.argv.slice(2)
const read = (name) => process.env[name] && fs.readFileSync(process.env[name])
const protocol = (process.env.PEER_WEB ? 'ws' : 'mqtt') + (process.env.PEER_CA ? 's' : '')
const tls = { ca: read('PEER_CA'), cert: read('PEER_CERT'), key: read('PEER_KEY') }
const web = process.env.PEER_WEB ? { path: '/mqtt', wsOptions: tls } : {}
const client = mqtt.connect({ protocol, ...tls, ...web, host, port: Number(port), protocolVersion: 5, clientId: device, username, password, reconnectPeriod: 0 })
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
