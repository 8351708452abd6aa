// What serves in Bun: WebSockets and nothing else, without pings, and as the server at hand says.

export const serve = (websocket) =>
    Bun.serve({
        hostname: '127.0.0.1',
        port: 0,
        fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('', { status: 426 })),
        websocket: { perMessageDeflate: false, idleTimeout: 0, sendPings: false, ...websocket },
    });
