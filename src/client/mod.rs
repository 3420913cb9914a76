//! An MQTT client as a pure state machine.
