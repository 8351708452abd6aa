// ws on Node: it has no broadcast, so a loop over its clients, as its documentation shows it.
//
//     node ws_loop.mjs SIZE [FILE]
//
// With FILE, it is the messages there that are said, with the library's own compression.

import { WebSocketServer } from 'ws';

import { answer } from './conversation.mjs';
import { facts, messagesOf, mostOf, obey, unitOf } from './pace.mjs';

const [size, file] = [Number(process.argv[2]), process.argv[3]];
const messages = messagesOf(size, file, (text) => Buffer.from(text));
const asText = { binary: false };

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: file !== undefined });
server.on('listening', () => answer(facts(server.address().port, file)));

function say() {
    const message = messages.next().value;
    for (const client of server.clients) {
        client.send(message, asText);
    }
}

const mostOwed = () => mostOf(server.clients, (client) => client.bufferedAmount);

await obey(say, mostOwed, size, unitOf(file));
