// Bun with its own publish and subscribe, which is uWebSockets in C++.
//
//     bun bun_topic.mjs SIZE [FILE]
//
// With FILE, it is the messages there that are said, with Bun's shared compressor.

import { serve } from './bun_site.mjs';
import { answer } from './conversation.mjs';
import { facts, messagesOf, mostOf, obey, unitOf } from './pace.mjs';

const [size, file] = [Number(process.argv[2]), process.argv[3]];
const compressed = file !== undefined;
const messages = messagesOf(size, file);
const links = new Set();

const server = serve({
    perMessageDeflate: compressed,
    open(link) {
        link.subscribe('bench');
        links.add(link);
    },
    message() {},
    close(link) {
        links.delete(link);
    },
});
answer(facts(server.port, file));

const say = () => server.publish('bench', messages.next().value, compressed);
const mostOwed = () => mostOf(links, (link) => link.getBufferedAmount());

await obey(say, mostOwed, size, unitOf(file));
