"""aiomqtt against a broker: MQTT 3.1, 3.1.1 and 5.0, driven from asyncio."""

import asyncio
import socket

from aiomqtt import Client, MqttError, ProtocolVersion, Will
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from scenarios import PATIENCE_SECONDS, Scenarios, equal, true, unique

SCENARIOS = Scenarios("aiomqtt")
PROTOCOLS = {"3.1": ProtocolVersion.V31, "3.1.1": ProtocolVersion.V311, "5.0": ProtocolVersion.V5}


def client(version, client_id=None, resume=False, will=None):
    """A client to enter with `async with`."""
    if version == "5.0":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 300 if resume else 0
        persistence = {"clean_start": not resume, "properties": properties}
    else:
        persistence = {"clean_session": not resume}
    return Client(
        SCENARIOS.host,
        SCENARIOS.port,
        identifier=client_id or unique("aio")[:23],
        protocol=PROTOCOLS[version],
        will=will,
        timeout=PATIENCE_SECONDS,
        max_queued_incoming_messages=10_000,
        **persistence,
    )


async def receive(subscriber, count):
    """The next `count` messages."""
    messages = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(messages) < count:
            messages.append(await anext(aiter(subscriber.messages)))
    return messages


async def nothing_until(subscriber, marker, publisher):
    """Fails if anything comes before a marker that is published to `marker`, to which `subscriber` subscribed."""
    await publisher.publish(marker, "marker", qos=1)
    (message,) = await receive(subscriber, 1)
    equal((str(message.topic), message.payload), (marker, b"marker"), "the next message")


def vanish(gone):
    """Ends the connection without a DISCONNECT."""
    # aiomqtt keeps the news in a future that nobody asks for, which asyncio would print.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    gone._client.socket().shutdown(socket.SHUT_RDWR)  # There is no public way to be rude.


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def round_trips_at_each_qos(version):
    topic = unique("aiomqtt/round")
    async with client(version) as publisher, client(version) as subscriber:
        for granted in (0, 1, 2):
            await subscriber.subscribe(f"{topic}/{granted}/+", qos=granted)
            for published in (0, 1, 2):
                for number in range(20):
                    await publisher.publish(f"{topic}/{granted}/{published}", f"{number}", qos=published)
                received = await receive(subscriber, 20)
                equal([message.payload for message in received], [b"%d" % n for n in range(20)], "payloads in order")
                equal({message.qos for message in received}, {min(granted, published)}, "the lower QoS")


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def many_publishers_at_once_lose_nothing(version):
    topic = unique("aiomqtt/many")
    async with client(version) as subscriber:
        await subscriber.subscribe(f"{topic}/#", qos=2)

        async def publish_all(publisher_number):
            async with client(version) as publisher:
                for number in range(25):
                    await publisher.publish(f"{topic}/{publisher_number}", f"{number}", qos=1 + number % 2)

        await asyncio.gather(*(publish_all(number) for number in range(8)))
        found = {}
        for message in await receive(subscriber, 200):
            found.setdefault((str(message.topic), message.qos), []).append(int(message.payload))
        equal(len(found), 16, "topics by QoS")
        for (name, qos), numbers in found.items():
            # Order holds for one publisher, topic and QoS.
            equal(numbers, list(range(qos - 1, 25, 2)), f"order on {name} at QoS {qos}")


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def retained_messages_are_stored_replayed_and_cleared(version):
    topic = unique("aiomqtt/retained")
    names = [f"{topic}/{number}" for number in range(10)]
    async with client(version) as publisher, client(version) as subscriber:
        for name in names:
            await publisher.publish(name, "old", qos=1, retain=True)
            await publisher.publish(name, name, qos=1, retain=True)
        await subscriber.subscribe(f"{topic}/+", qos=1)
        received = await receive(subscriber, 10)
        equal(sorted(str(message.topic) for message in received), sorted(names), "topics replayed")
        true(all(message.retain for message in received), "RETAIN of replayed messages")
        true(all(message.payload.decode() == str(message.topic) for message in received), "the last payload")
        for name in names:
            await publisher.publish(name, None, qos=1, retain=True)
        equal({message.payload for message in await receive(subscriber, 10)}, {b""}, "the clearing messages")
    async with client(version) as publisher, client(version) as late:
        await late.subscribe(f"{topic}/+", qos=1)
        await late.subscribe(f"{topic}/marker/deep", qos=1)
        await nothing_until(late, f"{topic}/marker/deep", publisher)


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def a_will_is_published_when_the_client_vanishes(version):
    topic = unique("aiomqtt/will")
    async with client(version) as watcher:
        await watcher.subscribe(f"{topic}/#", qos=1)
        try:
            async with client(version, will=Will(f"{topic}/last", "words", qos=1)) as mortal:
                vanish(mortal)
                (message,) = await receive(watcher, 1)
                equal((str(message.topic), message.payload, message.qos), (f"{topic}/last", b"words", 1), "the Will")
        except MqttError:
            # aiomqtt notices on its way out that its connection is gone.
            pass


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def a_will_is_dropped_on_disconnect(version):
    topic = unique("aiomqtt/will")
    async with client(version) as watcher, client(version) as publisher:
        await watcher.subscribe(f"{topic}/#", qos=1)
        async with client(version, will=Will(f"{topic}/last", "words", qos=1)):
            pass
        await nothing_until(watcher, f"{topic}/marker", publisher)


@SCENARIOS.add("3.1", "3.1.1", "5.0")
async def a_session_resumes_with_its_offline_messages(version):
    topic, client_id = unique("aiomqtt/resume"), unique("a")
    async with client(version, client_id, resume=True) as first:
        await first.subscribe([(f"{topic}/1", 1), (f"{topic}/2", 2)])
    async with client(version) as publisher:
        for number in range(30):
            await publisher.publish(f"{topic}/{1 + number % 2}", f"{number}", qos=1 + number % 2)
        async with client(version, client_id, resume=True) as second:
            received = await receive(second, 30)
            for qos in (1, 2):
                payloads = [int(message.payload) for message in received if message.qos == qos]
                equal(payloads, list(range(qos - 1, 30, 2)), f"offline messages of QoS {qos}")
            await second.unsubscribe([f"{topic}/1", f"{topic}/2"])
            await second.subscribe(f"{topic}/marker", qos=1)
            await nothing_until(second, f"{topic}/marker", publisher)
    async with client(version, client_id):
        pass


@SCENARIOS.add("3.1.1", "5.0")
async def a_share_group_gets_each_message_once(version):
    topic = unique("aiomqtt/shared")
    async with client(version) as one, client(version) as two, client(version) as publisher:
        arrivals = asyncio.Queue()

        async def collect(index, member):
            async for message in member.messages:
                await arrivals.put((index, message.payload))

        tasks = []
        for index, member in enumerate((one, two)):
            await member.subscribe(f"$share/group/{topic}/+", qos=2)
            await member.subscribe(f"{topic}/marker/{index}", qos=1)
            tasks.append(asyncio.create_task(collect(index, member)))
        for number in range(200):
            await publisher.publish(f"{topic}/{number % 7}", f"{number}", qos=2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            received = [await arrivals.get() for _ in range(200)]
            equal(sorted(int(payload) for _, payload in received), list(range(200)), "each message once")
            equal({index for index, _ in received}, {0, 1}, "the members that got a share")
            for index in (0, 1):
                await publisher.publish(f"{topic}/marker/{index}", "marker", qos=1)
                equal(await arrivals.get(), (index, b"marker"), "the next message")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@SCENARIOS.add("5.0")
async def publish_properties_arrive_as_sent(version):
    topic = unique("aiomqtt/properties")
    sent = Properties(PacketTypes.PUBLISH)
    sent.UserProperty = [("z", "1"), ("a", "2"), ("z", "3")]
    sent.ResponseTopic = f"{topic}/answer"
    sent.CorrelationData = bytes(range(256))
    sent.ContentType = "application/octet-stream"
    sent.PayloadFormatIndicator = 0
    sent.MessageExpiryInterval = 60
    async with client(version) as publisher, client(version) as subscriber:
        await subscriber.subscribe(topic, qos=2)
        for qos in (0, 1, 2):
            await publisher.publish(topic, b"\xff\x00", qos=qos, properties=sent)
            found = (await receive(subscriber, 1))[0].properties
            equal(found.UserProperty, [("z", "1"), ("a", "2"), ("z", "3")], "User Properties in order")
            equal(found.ResponseTopic, f"{topic}/answer", "Response Topic")
            equal(found.CorrelationData, bytes(range(256)), "Correlation Data")
            equal(found.ContentType, "application/octet-stream", "Content Type")
            equal(found.PayloadFormatIndicator, 0, "Payload Format Indicator")
            true(0 < found.MessageExpiryInterval <= 60, "Message Expiry Interval counts down")


@SCENARIOS.add("5.0")
async def a_request_is_answered_on_its_response_topic(version):
    topic = unique("aiomqtt/request")
    async with client(version) as asking, client(version) as answering:
        await answering.subscribe(f"{topic}/question", qos=1)
        await asking.subscribe(f"{topic}/answer/mine", options=SubscribeOptions(qos=1, noLocal=True))
        asked = Properties(PacketTypes.PUBLISH)
        asked.ResponseTopic, asked.CorrelationData = f"{topic}/answer/mine", b"42"
        await asking.publish(f"{topic}/question", "?", qos=1, properties=asked)
        (question,) = await receive(answering, 1)
        reply = Properties(PacketTypes.PUBLISH)
        reply.CorrelationData = question.properties.CorrelationData
        await answering.publish(question.properties.ResponseTopic, "!", qos=1, properties=reply)
        (answer,) = await receive(asking, 1)
        equal((answer.payload, answer.properties.CorrelationData), (b"!", b"42"), "the answer")


@SCENARIOS.add("5.0")
async def an_expired_message_is_not_delivered(version):
    topic, client_id = unique("aiomqtt/expiry"), unique("e")
    async with client(version, client_id, resume=True) as subscriber:
        await subscriber.subscribe(f"{topic}/#", qos=1)
    short, long = Properties(PacketTypes.PUBLISH), Properties(PacketTypes.PUBLISH)
    short.MessageExpiryInterval, long.MessageExpiryInterval = 1, 300
    will = Will(f"{topic}/will", "time is up", qos=1, properties=Properties(PacketTypes.WILLMESSAGE))
    will.properties.WillDelayInterval = 2
    async with client(version) as publisher, client(version) as clock:
        await publisher.publish(f"{topic}/short", "short", qos=1, properties=short)
        await publisher.publish(f"{topic}/long", "long", qos=1, properties=long)
        # The broker's own clock says when two seconds are over: by a Will that is delayed so long.
        await clock.subscribe(f"{topic}/will", qos=1)
        mortal = client(version, unique("m"), resume=True, will=will)
        try:
            async with mortal:
                vanish(mortal)
                await receive(clock, 1)
        except MqttError:
            pass
        async with client(version, client_id, resume=True) as subscriber:
            first, second = await receive(subscriber, 2)
            equal((first.payload, second.payload), (b"long", b"time is up"), "what had not expired")
            true(first.properties.MessageExpiryInterval < 300, "Message Expiry Interval less the time waited")
    async with client(version, client_id):
        pass


SCENARIOS.run()
