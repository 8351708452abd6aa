// ws on Node with a router by hand, as people write it.
//
//     node ws_requests.mjs

import { WebSocketServer } from 'ws';

import { answer, tellCost } from './conversation.mjs';

const actions = new Map([['add', ({ a, b }) => ({ sum: a + b })]]);

function replyTo({ seq, action, data }) {
    const handle = actions.get(action);
    return handle ? { seq_reply: seq, status: 'OK', data: handle(data) } : { seq_reply: seq, status: 'FAIL' };
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => answer({ port: server.address().port }));
server.on('connection', (link) =>
    link.on('message', (text) => link.send(JSON.stringify(replyTo(JSON.parse(text.toString())))))
);

await tellCost();
