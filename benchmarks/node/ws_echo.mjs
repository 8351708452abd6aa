// ws on Node, echoing.
//
//     node ws_echo.mjs

import { WebSocketServer } from 'ws';

import { answer, tellCost } from './conversation.mjs';

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => answer({ port: server.address().port }));
server.on('connection', (link) => link.on('message', (data, binary) => link.send(data, { binary })));

await tellCost();
