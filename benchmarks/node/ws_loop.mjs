// ws on Node: it has no broadcast, so a loop over its clients, as its documentation shows it.
//
//     node ws_loop.mjs SIZE

import { WebSocketServer } from 'ws';

import { answer } from './conversation.mjs';
import { obey } from './pace.mjs';

const size = Number(process.argv[2]);
const message = Buffer.alloc(size, 'x');
const asText = { binary: false };

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => answer({ port: server.address().port }));

function say() {
    for (const client of server.clients) {
        client.send(message, asText);
    }
}

function mostOwed() {
    let most = 0;
    for (const client of server.clients) {
        most = Math.max(most, client.bufferedAmount);
    }
    return most;
}

await obey(say, mostOwed, size);
