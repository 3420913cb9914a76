//! Bytes in, bytes out: the layers between a socket and MQTT frames.
