// The unmodified client of Mattermost, telling what happens to it: one JSON line on stdout for each thing.
//
//     node listen.mjs URL TOKEN [MILLISECONDS BETWEEN ITS PINGS]
//
// Told by the client: first_connect, reconnect, missed, close, event. Told by its WebSockets, over its shoulder:
// dial (with the URL), closed (with the code) and reply.

import mattermost from '@mattermost/client';
import { WebSocket } from 'ws';

// What a browser has, and Node 20 has not.
globalThis.WebSocket = WebSocket;
globalThis.CloseEvent ??= class CloseEvent extends Event {
    constructor(type, { code = 0, reason = '', wasClean = false } = {}) {
        super(type);
        Object.assign(this, { code, reason, wasClean });
    }
};

console.log = console.error; // the client's own chatter
const tell = (what, facts = {}) => process.stdout.write(JSON.stringify({ what, ...facts }) + '\n');

const [url, token, pingInterval = '30000'] = process.argv.slice(2);

const client = new mattermost.WebSocketClient({
    minWebSocketRetryTime: 20,
    maxWebSocketRetryTime: 100,
    reconnectJitterRange: 10,
    clientPingInterval: Number(pingInterval),
    newWebSocketFn: (url) => {
        tell('dial', { url });
        const socket = new WebSocket(url);
        socket.addEventListener('close', ({ code, reason }) => tell('closed', { code, reason }));
        socket.addEventListener('message', ({ data }) => {
            const said = JSON.parse(data);
            if ('seq_reply' in said) {
                tell('reply', said);
            }
        });
        return socket;
    },
});

client.addFirstConnectListener(() => tell('first_connect'));
client.addReconnectListener(() => tell('reconnect'));
client.addMissedMessageListener(() => tell('missed'));
client.addCloseListener((failures) => tell('close', { failures }));
client.addMessageListener(({ event, data, broadcast, seq }) => tell('event', { event, data, broadcast, seq }));
client.initialize(url, token);
