// Bun with its own publish and subscribe, which is uWebSockets in C++.
//
//     bun bun_topic.mjs SIZE

import { answer } from './conversation.mjs';
import { obey } from './pace.mjs';

const size = Number(process.argv[2]);
const message = 'x'.repeat(size);
const links = new Set();

const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('', { status: 426 })),
    websocket: {
        perMessageDeflate: false,
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
answer({ port: server.port });

function mostOwed() {
    let most = 0;
    for (const link of links) {
        most = Math.max(most, link.getBufferedAmount());
    }
    return most;
}

await obey(() => server.publish('bench', message), mostOwed, size);
