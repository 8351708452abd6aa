// socket.io on Node: events with acknowledgements.
//
//     node socketio_requests.mjs

import { createServer } from 'node:http';

import { Server } from 'socket.io';

import { answer, tellCost } from './conversation.mjs';

const SILENCE = 3_600_000; // ms, until a ping

const http = createServer();
const io = new Server(http, {
    transports: ['websocket'],
    serveClient: false,
    perMessageDeflate: false,
    pingInterval: SILENCE,
});
io.on('connection', (socket) => socket.on('add', ({ a, b }, reply) => reply({ sum: a + b })));
http.listen(0, '127.0.0.1', () => answer({ port: http.address().port, spelling: 'socket.io' }));

await tellCost();
