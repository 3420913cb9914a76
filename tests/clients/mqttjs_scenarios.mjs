// MQTT.js against a broker: MQTT 3.1, 3.1.1 and 5.0.
//
// A scenario throws when what must hold does not. All of them run, each prints one line, and the process exits with 1 if
// any failed. Usage: node mqttjs_scenarios.mjs --host 127.0.0.1 --port 1883 [--only WORDS]

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import mqtt from "mqtt";

const { values: options } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string" },
    only: { type: "string", default: "" },
  },
});

// How long a scenario waits for what must come. Nothing waits this long when all is well.
const PATIENCE_MS = 15_000;
const PROTOCOLS = {
  3.1: { protocolVersion: 3, protocolId: "MQIsdp" },
  "3.1.1": { protocolVersion: 4 },
  "5.0": { protocolVersion: 5 },
};
const ALL = Object.keys(PROTOCOLS);

const scenarios = [];
let clients = [];

/** Registers `run` once for each protocol version, which it takes as its argument. */
function scenario(name, versions, run) {
  for (const version of versions) scenarios.push({ name: `MQTT.js ${version}: ${name}`, version, run });
}

/** A name that no other scenario and no earlier run against the same broker has used. */
function unique(prefix) {
  return `${prefix}-${randomBytes(6).toString("hex")}`;
}

/** `promise`, or a failure that says `what` did not come in time. */
function inTime(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come in time`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What has arrived and nobody has taken yet, in order. */
class Inbox {
  #items = [];
  #waiting = [];

  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  async take(count = 1) {
    const taken = [];
    while (taken.length < count) {
      const next = this.#items.length
        ? this.#items.shift()
        : await inTime(new Promise((resolve) => this.#waiting.push(resolve)), `item ${taken.length + 1} of ${count}`);
      taken.push(next);
    }
    return taken;
  }
}

/** A connected client; its messages land in `inbox`, its CONNACK is in `connack`. */
async function connect(version, { clientId = unique("js").slice(0, 23), resume = false, will, properties = {}, inbox } = {}) {
  const client = mqtt.connect({
    host: options.host,
    port: Number(options.port),
    ...PROTOCOLS[version],
    clientId,
    clean: !resume,
    will,
    reconnectPeriod: 0,
    connectTimeout: PATIENCE_MS,
    ...(version === "5.0" ? { properties: { sessionExpiryInterval: resume ? 300 : 0, ...properties } } : {}),
  });
  clients.push(client);
  const arrivals = inbox ?? new Inbox();
  client.on("message", (topic, payload, packet) => {
    arrivals.put({ client, topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, packet });
  });
  const connected = new Promise((resolve, reject) => {
    client.once("connect", resolve);
    client.once("error", reject);
    client.once("close", () => reject(new Error("the connection closed before CONNACK")));
  });
  const connack = await inTime(connected, "CONNACK");
  client.on("error", () => {});
  return Object.assign(client, { inbox: arrivals, connack });
}

async function subscribe(client, filter, qos, more = {}) {
  const granted = await inTime(client.subscribeAsync(filter, { qos, ...more }), "SUBACK");
  assert.deepEqual(granted.map((each) => each.qos), [qos], `granted for ${filter}`);
}

function publish(client, topic, payload, qos = 0, more = {}) {
  return inTime(client.publishAsync(topic, payload, { qos, ...more }), "the acknowledgement");
}

/** Fails if anything comes before a marker that is published to `marker`, to which `client` subscribed. */
async function nothingUntil(client, marker, publisher) {
  await publish(publisher, marker, "marker", 1);
  const [message] = await client.inbox.take();
  assert.deepEqual([message.topic, message.payload], [marker, "marker"], "the next message");
}

/** Ends the connection without a DISCONNECT. */
function vanish(client) {
  client.stream.destroy();
}

function end(client) {
  return inTime(client.endAsync(), "the end of the connection");
}

/** The numbers from `from` below `to`, `step` apart, as the payloads that they become. */
function numbers(from, to, step = 1) {
  const found = [];
  for (let number = from; number < to; number += step) found.push(`${number}`);
  return found;
}

scenario("round trips at each QoS", ALL, async (version) => {
  const topic = unique("mqttjs/round");
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  for (const granted of [0, 1, 2]) {
    await subscribe(subscriber, `${topic}/${granted}/+`, granted);
    for (const published of [0, 1, 2]) {
      const name = `${topic}/${granted}/${published}`;
      // All at once: MQTT.js writes them in order without waiting for acknowledgements.
      await Promise.all(numbers(0, 50).map((number) => publish(publisher, name, number, published)));
      const received = await subscriber.inbox.take(50);
      assert.deepEqual(received.map((message) => message.payload), numbers(0, 50), "payloads in order");
      const qos = Math.min(granted, published);
      assert.ok(received.every((message) => message.qos === qos), `QoS ${qos}`);
      assert.ok(received.every((message) => !message.retain), "RETAIN of live messages");
    }
  }
});

scenario("large payloads arrive whole", ALL, async (version) => {
  const topic = unique("mqttjs/large");
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  await subscribe(subscriber, topic, 2);
  const payloads = ["a", "b", "c"].map((letter) => letter.repeat(200_000));
  await Promise.all(payloads.map((payload) => publish(publisher, topic, payload, 2)));
  const received = await subscriber.inbox.take(3);
  assert.ok(received.every((message, index) => message.payload === payloads[index]), "payloads unchanged");
});

scenario("retained messages are stored, replayed and cleared", ALL, async (version) => {
  const topic = unique("mqttjs/retained");
  const names = ["a", "b", "c"].map((name) => `${topic}/${name}`);
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  for (const name of names) {
    await publish(publisher, name, "old", 1, { retain: true });
    await publish(publisher, name, name, 1, { retain: true });
  }
  await subscribe(subscriber, `${topic}/+`, 1);
  const received = await subscriber.inbox.take(3);
  assert.deepEqual(received.map((message) => message.topic).sort(), names, "topics replayed");
  assert.ok(received.every((message) => message.payload === message.topic && message.retain), "the last payload, RETAIN");
  for (const name of names) await publish(publisher, name, "", 1, { retain: true });
  await subscriber.inbox.take(3);
  const late = await connect(version);
  await subscribe(late, `${topic}/+`, 1);
  await subscribe(late, `${topic}/marker/deep`, 1);
  await nothingUntil(late, `${topic}/marker/deep`, publisher);
});

scenario("a Will is published when the client vanishes", ALL, async (version) => {
  const topic = unique("mqttjs/will");
  const watcher = await connect(version);
  await subscribe(watcher, `${topic}/last`, 1);
  vanish(await connect(version, { will: { topic: `${topic}/last`, payload: "words", qos: 1, retain: true } }));
  const [will] = await watcher.inbox.take();
  assert.deepEqual([will.topic, will.payload, will.qos], [`${topic}/last`, "words", 1], "the Will");
  const late = await connect(version);
  await subscribe(late, `${topic}/#`, 1);
  assert.equal((await late.inbox.take())[0].retain, true, "RETAIN of the retained Will");
  await publish(watcher, `${topic}/last`, "", 1, { retain: true });
});

scenario("a Will is dropped on DISCONNECT", ALL, async (version) => {
  const topic = unique("mqttjs/will");
  const [watcher, publisher] = [await connect(version), await connect(version)];
  await subscribe(watcher, `${topic}/#`, 1);
  await end(await connect(version, { will: { topic: `${topic}/last`, payload: "words", qos: 1 } }));
  await nothingUntil(watcher, `${topic}/marker`, publisher);
});

scenario("a session resumes with its offline messages", ALL, async (version) => {
  const [topic, clientId] = [unique("mqttjs/resume"), unique("j")];
  const first = await connect(version, { clientId, resume: true });
  assert.ok(!first.connack.sessionPresent, "no session at first");
  await subscribe(first, `${topic}/1`, 1);
  await subscribe(first, `${topic}/2`, 2);
  await end(first);
  const publisher = await connect(version);
  for (let number = 0; number < 30; number += 1) {
    await publish(publisher, `${topic}/${1 + (number % 2)}`, `${number}`, 1 + (number % 2));
  }
  const second = await connect(version, { clientId, resume: true });
  if (version !== "3.1") assert.ok(second.connack.sessionPresent, "session present on resumption");
  const received = await second.inbox.take(30);
  for (const qos of [1, 2]) {
    const payloads = received.filter((message) => message.qos === qos).map((message) => message.payload);
    assert.deepEqual(payloads, numbers(qos - 1, 30, 2), `offline messages of QoS ${qos}`);
  }
  await publish(publisher, `${topic}/2`, "live", 2);
  assert.equal((await second.inbox.take())[0].payload, "live", "the message after the offline ones");
  await end(second);
  await end(await connect(version, { clientId }));
});

scenario("unsubscribed topics are silent", ALL, async (version) => {
  const topic = unique("mqttjs/unsubscribe");
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  await subscribe(subscriber, `${topic}/a`, 1);
  await subscribe(subscriber, `${topic}/marker`, 1);
  await inTime(subscriber.unsubscribeAsync(`${topic}/a`), "UNSUBACK");
  await publish(publisher, `${topic}/a`, "after", 1);
  await nothingUntil(subscriber, `${topic}/marker`, publisher);
});

scenario("a share group gets each message once", ["3.1.1", "5.0"], async (version) => {
  const topic = unique("mqttjs/shared");
  const inbox = new Inbox();
  const members = [await connect(version, { inbox }), await connect(version, { inbox })];
  for (const [index, member] of members.entries()) {
    await subscribe(member, `$share/group/${topic}/+`, 1);
    await subscribe(member, `${topic}/marker/${index}`, 1);
  }
  const publisher = await connect(version);
  await Promise.all(numbers(0, 200).map((number) => publish(publisher, `${topic}/${number % 7}`, number, 1)));
  const received = await inbox.take(200);
  const payloads = received.map((message) => Number(message.payload)).sort((a, b) => a - b);
  assert.deepEqual(payloads.map(String), numbers(0, 200), "each message once");
  assert.equal(new Set(received.map((message) => message.client)).size, 2, "members that got a share");
  for (const index of members.keys()) {
    await publish(publisher, `${topic}/marker/${index}`, "marker", 1);
    const [message] = await inbox.take();
    assert.equal(message.topic, `${topic}/marker/${index}`, "the next message");
  }
});

scenario("PUBLISH properties arrive as sent", ["5.0"], async (version) => {
  const topic = unique("mqttjs/properties");
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  await subscribe(subscriber, topic, 2);
  const properties = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 90,
    responseTopic: `${topic}/answer`,
    correlationData: Buffer.from([0, 1, 255]),
    contentType: "text/plain",
    userProperties: { z: ["1", "3"], a: "2" },
  };
  for (const qos of [0, 1, 2]) {
    await publish(publisher, topic, "payload", qos, { properties });
    const found = (await subscriber.inbox.take())[0].packet.properties;
    assert.ok(found.messageExpiryInterval > 0 && found.messageExpiryInterval <= 90, "Message Expiry Interval");
    const expected = { ...properties, messageExpiryInterval: found.messageExpiryInterval };
    // MQTT.js makes objects without a prototype; only what they hold counts.
    assert.deepEqual(structuredClone({ ...found, correlationData: [...found.correlationData] }), {
      ...expected,
      correlationData: [0, 1, 255],
    });
  }
});

scenario("subscription options and identifiers are honoured", ["5.0"], async (version) => {
  const topic = unique("mqttjs/options");
  const [client, other] = [await connect(version), await connect(version)];
  await publish(other, `${topic}/kept`, "kept", 1, { retain: true });
  await subscribe(client, `${topic}/+`, 1, { nl: true, rh: 2, rap: true, properties: { subscriptionIdentifier: 1234 } });
  await publish(client, `${topic}/own`, "from myself", 1);
  await publish(other, `${topic}/other`, "from another", 1, { retain: true });
  const [message] = await client.inbox.take();
  assert.equal(message.payload, "from another", "No Local and Retain Handling 2");
  assert.equal(message.retain, true, "Retain As Published");
  assert.deepEqual([message.packet.properties.subscriptionIdentifier].flat(), [1234], "Subscription Identifier");
  for (const name of ["kept", "other"]) await publish(other, `${topic}/${name}`, "", 1, { retain: true });
});

scenario("topic aliases are resolved", ["5.0"], async (version) => {
  const topic = unique("mqttjs/alias");
  const [publisher, subscriber] = [await connect(version), await connect(version)];
  const maximum = publisher.connack.properties?.topicAliasMaximum ?? 0;
  assert.ok(maximum > 0, "the broker accepts topic aliases");
  await subscribe(subscriber, `${topic}/+`, 1);
  for (const [name, alias] of [["a", 1], ["b", maximum]]) {
    await publish(publisher, `${topic}/${name}`, "named", 1, { properties: { topicAlias: alias } });
    await publish(publisher, "", "aliased", 1, { properties: { topicAlias: alias } });
    const received = await subscriber.inbox.take(2);
    assert.deepEqual(received.map((message) => message.topic), [`${topic}/${name}`, `${topic}/${name}`], "topics");
    assert.deepEqual(received.map((message) => message.payload), ["named", "aliased"], "payloads");
  }
});

scenario("a take-over tells the older connection", ["5.0"], async (version) => {
  const clientId = unique("t");
  const older = await connect(version, { clientId, resume: true });
  const told = new Promise((resolve) => older.once("disconnect", resolve));
  const newer = await connect(version, { clientId, resume: true });
  assert.equal((await inTime(told, "DISCONNECT")).reasonCode, 0x8e, "the reason in DISCONNECT");
  await end(newer);
  await end(await connect(version, { clientId }));
});

let [passed, failed] = [0, 0];
for (const { name, version, run } of scenarios.filter((each) => each.name.includes(options.only))) {
  const started = performance.now();
  const took = () => `(${((performance.now() - started) / 1000).toFixed(2)} s)`;
  try {
    await run(version);
    passed += 1;
    console.log(`ok   ${name} ${took()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name} ${took()}\n${error.stack}`);
  }
  for (const client of clients) client.end(true);
  clients = [];
}
console.log(`MQTT.js: ${passed} scenarios held, ${failed} did not`);
process.exit(failed || !passed ? 1 : 0);
