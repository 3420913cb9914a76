// Starts aedes for scripts/compare: node aedes.mjs PORT
import { createServer } from "node:net";

import { Aedes } from "aedes";

const aedes = await Aedes.createBroker();
const server = createServer({ noDelay: true }, aedes.handle);
server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
