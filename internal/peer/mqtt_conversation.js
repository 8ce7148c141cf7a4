// mqtt_conversation.py, with MQTT.js.
const fs = require('fs')
const mqtt = require('mqtt')
const [host, port, version, username, password] = process.argv.slice(2)
const read = (name) => process.env[name] && fs.readFileSync(process.env[name])
const tls = { ca: read('PEER_CA'), cert: read('PEER_CERT'), key: read('PEER_KEY') }
const protocol = (process.env.PEER_WEB ? 'ws' : 'mqtt') + (process.env.PEER_CA ? 's' : '')
const web = process.env.PEER_WEB ? { path: '/mqtt', wsOptions: tls } : {}
const server = { protocol, ...tls, ...web, host, port: Number(port), username, password }
const got = []
const connect = (name, o = {}) => new Promise((ok, no) => {
  const c = mqtt.connect({...server, clientId: name, protocolVersion: +version, clean: true, reconnectPeriod: 0, ...o})
  c.on('message', (t, p, packet) => got.push(t + ' ' + p + (packet.properties?.userProperties?.k ?? '')))
  c.on('error', no)
  c.once('connect', ack => { c.present = ack.sessionPresent; ok(c) })
})
const kept = {clean: false, ...(version === '5' ? {properties: {sessionExpiryInterval: 3600}} : {})}
const expect = async (...want) => {
  for (let i = 0; i < 1000 && got.length < want.length; i++) await new Promise(r => setTimeout(r, 20))
  if (got.sort().join() !== want.sort().join()) throw new Error(got + ' and not ' + want)
  got.length = 0
}
const line = () => new Promise(r => process.stdin.once('data', r))
;(async () => {
  const pub = await connect('pub')
  const [said, k] = version === '5' ? [{properties: {userProperties: {k: 'v'}}}, 'v'] : [{}, '']
  await pub.publishAsync('t/1', 'x', {qos: 1, retain: true, ...said})
  let sub = await connect('sub', kept)
  await sub.subscribeAsync('t/#', {qos: 2})
  for (const qos of [0, 2]) await pub.publishAsync('t/' + qos, 'x', {qos, ...said})
  await expect('t/0 x' + k, 't/1 x' + k, 't/2 x' + k)
  await sub.endAsync()
  console.log('away'); await line()
  for (const qos of [1, 2]) await pub.publishAsync('t/missed', String(qos), {qos})
  sub = await connect('sub', kept)
  if (!sub.present) throw new Error('the session did not go on')
  await expect('t/missed 1', 't/missed 2')
  const lost = await connect('lost', {will: {topic: 't/will', payload: 'gone', qos: 1}})
  lost.stream.destroy()
  await expect('t/will gone')
  const late = await connect('late')
  await late.subscribeAsync('t/1', {qos: 1})
  await expect('t/1 x' + k)
  for (const name of ['one', 'two']) await (await connect(name)).subscribeAsync('$share/g/s/#', {qos: 1})
  for (const qos of [1, 2]) await pub.publishAsync('s/' + qos, 'x', {qos})
  await expect('s/1 x', 's/2 x')
  console.log('well')
  process.exit(0)
})().catch(e => { console.error(e); process.exit(1) })
