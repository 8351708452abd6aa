// Bun with its own publish and its shared compressor: messages of a chat, as in `servers/chat_hub.py`.
//
//     bun bun_chat.mjs SIZE FILE

import { readFileSync } from 'node:fs';

import { answer } from './conversation.mjs';
import { obey } from './pace.mjs';

const size = Number(process.argv[2]);
const messages = readFileSync(process.argv[3], 'utf8').trim().split('\n');
const links = new Set();

const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('', { status: 426 })),
    websocket: {
        perMessageDeflate: true,
        idleTimeout: 0,
        sendPings: false,
        open(link) {
            link.subscribe('bench');
            links.add(link);
        },
        message() {},
        close(link) {
            links.delete(link);
        },
    },
});
answer({ port: server.port, unit: 'compressed' });

let said = 0;

function mostOwed() {
    let most = 0;
    for (const link of links) {
        most = Math.max(most, link.getBufferedAmount());
    }
    return most;
}

await obey(() => server.publish('bench', messages[said++ % messages.length], true), mostOwed, size, 1);
