// What `benchmarks/conversation.py` says, for programs in JavaScript: commands on stdin, JSON lines on stdout.
// Node and Bun run it alike.

import { createInterface } from 'node:readline';

// Say something to the one who started us.
export const answer = (facts) => process.stdout.write(JSON.stringify(facts) + '\n');

// The words of each command, until there are no more.
export async function* commands() {
    for await (const line of createInterface({ input: process.stdin })) {
        yield line.split(' ');
    }
}

// Seconds on the system's monotonic clock, which all processes share. Bun's own begins with its process.
export const now = process.versions.bun ? await systemClock() : () => Number(process.hrtime.bigint()) / 1e9;

async function systemClock() {
    const CLOCK_MONOTONIC = 1;
    const { dlopen, ptr } = await import('bun:ffi');
    const libc = dlopen('libc.so.6', { clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' } });
    const time = new BigInt64Array(2);
    return () => {
        libc.symbols.clock_gettime(CLOCK_MONOTONIC, ptr(time));
        return Number(time[0]) + Number(time[1]) / 1e9;
    };
}

// Seconds of CPU time that this process has used.
export function cpuTime() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
}

// For servers to which all work comes from their clients: answer every `cpu`, then end the process.
export async function tellCost() {
    for await (const _ of commands()) {
        answer({ cpu: cpuTime() });
    }
    process.exit();
}
