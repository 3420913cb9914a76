//! MQTT 3.1 (`MQIsdp`, level 3), where it differs from 3.1.1.
