//! Filters, interest, share groups and retained messages.
