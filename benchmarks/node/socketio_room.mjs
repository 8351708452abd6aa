// socket.io on Node: an event to a room, over WebSockets from the first byte.
//
//     node socketio_room.mjs SIZE
//
// Every event takes SIZE bytes, its envelope included.

import { createServer } from 'node:http';

import { Server } from 'socket.io';

import { answer } from './conversation.mjs';
import { mostOf, obey } from './pace.mjs';

const SILENCE = 3_600_000; // ms, until a ping, which would be counted as part of an event

const size = Number(process.argv[2]);
const text = 'x'.repeat(size - '42["tick",""]'.length);

const http = createServer();
const io = new Server(http, {
    transports: ['websocket'],
    serveClient: false,
    perMessageDeflate: false,
    pingInterval: SILENCE,
});
io.on('connection', (socket) => socket.join('bench'));
http.listen(0, '127.0.0.1', () => answer({ port: http.address().port }));

const say = () => io.to('bench').emit('tick', text);

// What waits in a link's WebSocket, and in Engine.IO while that is not writable.
const waiting = ({ conn }) => conn.transport.socket.bufferedAmount + conn.writeBuffer.length * size;
const mostOwed = () => mostOf(io.sockets.sockets.values(), waiting);

await obey(say, mostOwed, size);
