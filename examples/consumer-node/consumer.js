// Reads telemetry from Tributary's NATS door and prints a line a message.
//
//   npm install @nats-io/transport-node @nats-io/jetstream protobufjs
//   node consumer.js --data data --proto proto --durable billing
//
// It decodes with proto/tributary/v1/message.proto itself; nothing is generated.
// With --durable it goes on where it stopped the last time, and acknowledges
// what it has dealt with: what was fetched and not acknowledged comes again
// after half a minute. Without, it reads what the stream keeps and follows.
'use strict'
const fs = require('fs')
const path = require('path')
const { parseArgs } = require('util')
const { connect } = require('@nats-io/transport-node')
const { jetstream, jetstreamManager, AckPolicy } = require('@nats-io/jetstream')
const protobuf = require('protobufjs')

const { values: options } = parseArgs({
  options: {
    data: { type: 'string', default: 'tributary-data' }, // the server's data directory
    proto: { type: 'string', default: 'proto' }, // of this repository
    durable: { type: 'string', default: '' },
    filter: { type: 'string', default: 'telemetry.>' },
    n: { type: 'string', default: '0' }, // stop after so many; 0: never
  },
})

async function main() {
  const root = new protobuf.Root()
  root.resolvePath = (_, target) =>
    target.startsWith('google/protobuf/') ? target : path.join(options.proto, target.replace(/^.*(?=tributary\/v1\/)/, ''))
  await root.load('tributary/v1/message.proto')
  const Message = root.lookupType('tributary.v1.Message')

  const addresses = JSON.parse(fs.readFileSync(path.join(options.data, 'addresses.json'), 'utf8'))
  const pass = fs.readFileSync(path.join(options.data, 'admin.token'), 'utf8').trim()
  const nc = await connect({ servers: addresses.nats, user: 'reader', pass })
  const js = jetstream(nc)
  let consumer
  if (options.durable) {
    const manager = await jetstreamManager(nc)
    await manager.consumers.add('TELEMETRY', {
      durable_name: options.durable, filter_subject: options.filter, ack_policy: AckPolicy.Explicit,
    })
    consumer = await js.consumers.get('TELEMETRY', options.durable)
  } else {
    consumer = await js.consumers.get('TELEMETRY', { filter_subjects: [options.filter] })
  }
  let n = 0
  const messages = await consumer.consume()
  for await (const m of messages) {
    const message = Message.decode(m.data)
    const found = message.measurements.map((x) => ` ${x.name}=${x[x.value]}`).join('')
    console.log(`${message.tenant}/${message.device}/${message.channel} ${message.protocol}${found}`)
    if (options.durable) await m.ackAck() // deal with the message first, then say so
    if (++n === Number(options.n)) break
  }
  await nc.close()
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
