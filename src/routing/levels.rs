//! Levels of topics and filters, and the plain rule of matching.
