// Clients of socket.io that are cut: what `benchmarks/load/hearing.py` does, and asks for.
//
//     node socketio_hear.mjs PORTS
//
// Whoever comes back and has recovered nothing is told so: that counts as a gap.

import { setTimeout } from 'node:timers/promises';

import { io } from 'socket.io-client';

import { answer, commands, now } from './conversation.mjs';

const CONNECT_WITHIN = 30; // s, all together
const RETRY = 500; // ms

class Hearing {
    numbers = new Set();
    last = 0;
    duplicates = 0;
    disorder = 0;
    gaps = 0;
    connected = false;
    finished = false;

    hear(number) {
        if (number === 0) {
            this.finished = true;
        } else if (this.numbers.has(number)) {
            this.duplicates++;
        } else {
            this.disorder += number < this.last;
            this.numbers.add(number);
            this.last = number;
        }
    }
}

function open(port) {
    const hearing = new Hearing();
    const socket = io(`http://127.0.0.1:${port}`, {
        transports: ['websocket'],
        forceNew: true,
        reconnectionDelay: RETRY / 2,
        reconnectionDelayMax: RETRY,
    });
    socket.on('tick', (number) => hearing.hear(number));
    socket.on('connect', () => {
        hearing.gaps += hearing.connected && !socket.recovered;
        hearing.connected = true;
    });
    return hearing;
}

async function all(hearings, fact, seconds) {
    const end = now() + seconds;
    while (now() < end && !hearings.every(fact)) {
        await setTimeout(20);
    }
    return hearings.every(fact);
}

const hearings = process.argv[2].split(',').map(open);
const sum = (figure) => hearings.reduce((total, hearing) => total + figure(hearing), 0);

if (!(await all(hearings, (each) => each.connected, CONNECT_WITHIN))) {
    answer({ failed: 'not all have connected' });
    process.exit();
}
answer({});
for await (const [, messages, seconds] of commands()) {
    await all(hearings, (each) => each.finished, Number(seconds));
    if (hearings.some((each) => each.last > Number(messages))) {
        answer({ failed: 'a number was heard that was not said' });
        break;
    }
    answer({
        received: sum((each) => each.numbers.size),
        unfinished: sum((each) => !each.finished),
        duplicates: sum((each) => each.duplicates),
        disorder: sum((each) => each.disorder),
        gaps: sum((each) => each.gaps),
    });
}
process.exit();
