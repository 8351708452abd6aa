// Bun, echoing.
//
//     bun bun_echo.mjs

import { serve } from './bun_site.mjs';
import { answer, tellCost } from './conversation.mjs';

const server = serve({ message: (link, message) => link.send(message) });
answer({ port: server.port });

await tellCost();
