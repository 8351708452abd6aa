// Back-pressure as in `benchmarks/servers/pace.py`, with the same numbers; timers here know only whole milliseconds.

import { readFileSync } from 'node:fs';
import { setImmediate, setTimeout } from 'node:timers/promises';

import { answer, commands, cpuTime, now } from './conversation.mjs';

const LOOK_AFTER = 64 * 1024;
const MOST_OWED = 64 * 1024;
const PAUSE = 1; // ms

// Do as told on stdin, until there is nothing more; then end the process. `say` sends one message of `size` bytes to
// everybody, `mostOwed` is how many bytes wait in our memory for the link for which the most wait. `unit` is what a
// message is to a sink.
export async function obey(say, mostOwed, size, unit = size + (size < 126 ? 2 : 4)) {
    for await (const [command, ...numbers] of commands()) {
        if (command === 'size') {
            answer({ units: Number(numbers[0]) * unit });
        } else if (command === 'publish') {
            answer({ begun: now(), cpu: cpuTime() });
            await publish(say, mostOwed, size, ...numbers.map(Number));
        } else if (command === 'cpu') {
            answer({ cpu: cpuTime() });
        }
    }
    process.exit();
}

// Yield, without an end, what is said to everybody: the messages in `file`, one on each line, or else one of `size`
// bytes. Each is made once into what the library takes.
export function* messagesOf(size, file, make = (text) => text) {
    const texts = file ? readFileSync(file, 'utf8').trim().split('\n') : ['x'.repeat(size)];
    const messages = texts.map(make);
    for (let said = 0; ; said++) {
        yield messages[said % messages.length];
    }
}

// The bytes that wait for the link for which the most wait.
export function mostOf(links, waiting) {
    let most = 0;
    for (const link of links) {
        most = Math.max(most, waiting(link));
    }
    return most;
}

// How a sink counts: what is compressed has no size that anybody knows.
export const facts = (port, file) => (file ? { port, unit: 'compressed' } : { port });
export const unitOf = (file) => (file ? 1 : undefined);

async function publish(say, mostOwed, size, messages, burst) {
    let looked = 0;
    for (let done = 0; done < messages; done += burst) {
        for (let each = 0; each < burst; each++) {
            say();
        }
        await setImmediate();
        if ((done - looked) * size >= LOOK_AFTER) {
            looked = done;
            while (mostOwed() > MOST_OWED) {
                await setTimeout(PAUSE);
            }
        }
    }
}
