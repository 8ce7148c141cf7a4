// A device on rhea: the header, OPEN and what follows are pipelined when there
// is no credential. It sends, is refused, takes a command and answers it.
const rhea = require('rhea');
const [host, port] = process.argv[2].split(':');
const [user, secret] = process.argv.slice(3);
const options = { host, port, reconnect: false, idle_time_out: 4000, container_id: 'js' };
if (user) Object.assign(options, { username: user, password: secret });
const container = rhea.create_container();
const fail = (what) => (context) => { console.log(what, String(context.error || (context.connection && context.connection.error) || '')); process.exit(3); };
container.on('connection_error', fail('refused'));
container.on('disconnected', fail('refused'));
const connection = container.connect(options);
const telemetry = connection.open_sender('telemetry/room');
let left = 3;
telemetry.once('sendable', () => {
  telemetry.send({ body: rhea.message.data_section(Buffer.from('{"temperature":21.5}')), content_type: 'application/json', message_id: 7 });
  telemetry.send({ body: '22.5', creation_time: 1700000000123 });
  telemetry.send({ body: rhea.message.data_section(Buffer.alloc(1000000, 120)) });
  telemetry.send({ body: rhea.message.data_section(Buffer.from('{')), content_type: 'application/json' });
});
let rejected = false;
telemetry.on('rejected', (c) => { rejected = c.delivery.remote_state.error.condition === 'amqp:decode-error'; });
telemetry.on('accepted', () => { if (--left === 0) receive(); });
function receive() {
  const commands = connection.open_receiver({ source: 'commands', autoaccept: false, credit_window: 0 });
  commands.on('receiver_open', () => commands.add_credit(1));
  commands.on('message', (context) => {
    const m = context.message;
    console.log('command', m.message_id, m.subject, (m.body.content || m.body).toString(), m.reply_to);
    context.delivery.accept();
    const answers = connection.open_sender(m.reply_to);
    answers.once('sendable', () => answers.send({ correlation_id: m.correlation_id, application_properties: { status: 201 }, body: 'done' }));
    answers.on('accepted', () => {
      if (!rejected) fail('what cannot be decoded was not rejected')({});
      container.removeAllListeners('disconnected');
      connection.close();
    });
  });
}
