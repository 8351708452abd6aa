// socket.io on Node with connection state recovery: numbered events to everybody, as `benchmarks/servers/ticks.py` has it.
//
//     node socketio_ticks.mjs

import { createServer } from 'node:http';
import { setTimeout } from 'node:timers/promises';

import { Server } from 'socket.io';

import { answer, commands, now } from './conversation.mjs';

const http = createServer();
const io = new Server(http, { transports: ['websocket'], serveClient: false, connectionStateRecovery: {} });
http.listen(0, '127.0.0.1', () => answer({ port: http.address().port }));

async function tick(messages, rate) {
    const begun = now();
    for (let said = 1; ; said++) {
        await setTimeout(Math.max(1e3 * (begun + said / rate - now()), 0));
        io.emit('tick', said <= messages ? said : 0);
        if (said === messages) {
            answer({});
        }
    }
}

for await (const [, messages, rate] of commands()) {
    tick(Number(messages), Number(rate));
}
process.exit();
