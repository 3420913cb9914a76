//! The ApplicationMessage: shared and immutable.
