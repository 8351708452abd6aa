// ws on Node with its own compression, in a loop over its clients: messages of a chat, as in `servers/chat_hub.py`.
//
//     node ws_chat.mjs SIZE FILE

import { readFileSync } from 'node:fs';

import { WebSocketServer } from 'ws';

import { answer } from './conversation.mjs';
import { obey } from './pace.mjs';

const size = Number(process.argv[2]);
const messages = readFileSync(process.argv[3], 'utf8').trim().split('\n').map((line) => Buffer.from(line));
const asText = { binary: false };

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
server.on('listening', () => answer({ port: server.address().port, unit: 'compressed' }));

let said = 0;

function say() {
    const message = messages[said++ % messages.length];
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

await obey(say, mostOwed, size, 1);
