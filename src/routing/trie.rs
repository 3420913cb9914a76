//! The wildcard filters.
