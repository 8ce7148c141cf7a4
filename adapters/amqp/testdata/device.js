// A device on rhea: the header, OPEN and what follows are pipelined when there is no
// credential. It does what device.py does.
const rhea = require('rhea');
const [host, port] = process.argv[2].split(':');
const [user, secret, silence] = process.argv.slice(3);
const options = { host, port, reconnect: false, idle_time_out: 4000, container_id: 'js' };
if (user) Object.assign(options, { username: user, password: secret });
const container = rhea.create_container();
const fail = (what) => (context) => { console.log(what, String(context.error || (context.connection && context.connection.error) || '')); process.exit(3); };
container.on('connection_error', fail('refused'));
container.on('disconnected', fail('refused'));
const connection = container.connect(options);
const data = (content) => rhea.message.data_section(Buffer.from(content));

// next waits for the first of the events.
const next = (link, ...events) => new Promise((resolve) => events.forEach((e) => link.once(e, (context) => resolve({ event: e, context }))));
async function sender(target) {
  const link = connection.open_sender(target);
  const { event, context } = await next(link, 'sendable', 'sender_error');
  return event === 'sendable' ? link : Promise.reject(context.sender.error);
}
async function send(link, message, want = 'accepted') {
  const outcome = next(link, 'accepted', 'rejected', 'sender_error');
  link.send(message);
  const { event, context } = await outcome;
  if (event !== want) fail(`${event}, and not ${want}`)(context);
  return context;
}
const wanted = (error, condition) => { if (!error || error.condition !== condition) fail(`not ${condition}:`)({ error }); };

async function device() {
  const telemetry = await sender('telemetry/room');
  await send(telemetry, { body: data('{"temperature":21.5}'), content_type: 'application/json', message_id: 7 });
  await send(telemetry, { body: '22.5', creation_time: 1700000000123 });
  await send(telemetry, { body: data(Buffer.alloc(1 << 20, 120)) });
  wanted((await send(telemetry, { body: data('{'), content_type: 'application/json' }, 'rejected')).delivery.remote_state.error, 'amqp:decode-error');
  const settled = await sender({ target: 'telemetry/settled', snd_settle_mode: 1 });
  settled.send({ body: data('1') });
  const large = await sender('telemetry/large');
  wanted((await send(large, { body: data(Buffer.alloc(1 << 21, 120)) }, 'sender_error')).sender.error, 'amqp:link:message-size-exceeded');

  await new Promise((resolve) => setTimeout(resolve, Number(silence) * 1000));

  const relay = await sender({ target: {} });
  await send(relay, { to: 'js/telemetry/relayed', body: data('1') });
  await sender('nobody/nowhere').then(() => fail('attached to nowhere')({}), (error) => wanted(error, 'amqp:not-found'));

  const burst = await sender('telemetry/burst');
  const all = new Promise((resolve) => { let left = 10; burst.on('accepted', () => { if (--left === 0) resolve(); }); });
  for (let n = 0; n < 10; n++) burst.send({ body: data(String(n)) });
  await all;

  const commands = connection.open_receiver({ source: 'commands', autoaccept: false, credit_window: 0 });
  await next(commands, 'receiver_open');
  commands.add_credit(1);
  const { context } = await next(commands, 'message');
  const m = context.message;
  console.log('command', m.message_id, m.subject, (m.body.content || m.body).toString(), m.reply_to);
  context.delivery.accept();
  commands.add_credit(5);
  commands.drain_credit();
  await next(commands, 'receiver_drained');
  await send(relay, { to: m.reply_to, correlation_id: m.correlation_id, application_properties: { status: 201 }, body: 'done' });
  container.removeAllListeners('disconnected');
  connection.close();
}
device().catch((error) => fail('failed')({ error }));
