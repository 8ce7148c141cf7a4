// exactly_once.py, with MQTT.js as it is.
const mqtt = require('mqtt')

const [host, port, topic, username, password] = process.argv.slice(2)
const window = 10 // published and not finished: it sends them again one after the other
const got = new Map()
let sent = 0
let done = 0
let ended = false

const connect = (clientId) => mqtt.connect({
  host, port: Number(port), clientId, clean: false, protocolVersion: 5, properties: { sessionExpiryInterval: 3600 },
  username, password, reconnectPeriod: 500
}).on('error', () => {}) // of attempts while the server is down

const sub = connect('sub')
const pub = connect('pub')
sub.on('message', (_, payload) => { const n = Number(payload); got.set(n, (got.get(n) || 0) + 1) })

// MQTT.js keeps what it is given while it is connected, and while it is not. What it is
// given while it sends again what it kept, it hands back when the connection is lost
// meanwhile: with this error, and unsent.
const handedBack = (err) => err && err.message === 'Connection closed'

const publish = (n) => pub.publish(topic, String(n), { qos: 2 }, (err) => {
  if (handedBack(err)) return setImmediate(publish, n)
  // Packet Identifier not found: it was released before, "not an error during recovery" (3.7.2.1).
  if (!err || err.code === 0x92) done++
  setImmediate(fill)
})

const fill = () => {
  while (!ended && sent - done < window) publish(sent++)
}

const finish = async () => {
  ended = true
  for (const end = Date.now() + 60_000; Date.now() < end && (done < sent || got.size < sent);) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await new Promise((resolve) => setTimeout(resolve, 500)) // what comes twice comes late
  const lost = []
  for (let n = 0; n < sent; n++) if (!got.has(n)) lost.push(n)
  const doubled = [...got.keys()].filter((n) => got.get(n) > 1)
  console.log('sent', sent, 'unfinished', sent - done, 'lost', lost.slice(0, 20), 'doubled', doubled.slice(0, 20))
  process.exit(lost.length || doubled.length || done < sent ? 1 : 0)
}

sub.once('connect', async () => {
  await sub.subscribeAsync(topic, { qos: 2 })
  console.log('ready')
  process.stdin.on('end', finish).resume()
  fill()
})
