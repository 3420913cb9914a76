//! HTTP API and metrics.
