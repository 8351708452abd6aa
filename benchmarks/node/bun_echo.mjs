// Bun, echoing.
//
//     bun bun_echo.mjs

import { answer, tellCost } from './conversation.mjs';

const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('', { status: 426 })),
    websocket: {
        perMessageDeflate: false,
        idleTimeout: 0,
        sendPings: false,
        message: (link, message) => link.send(message),
    },
});
answer({ port: server.port });

await tellCost();
