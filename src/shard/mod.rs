//! The state machine of one core.
